"""The text side of a HookedTransformer: strings to tokens and back."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lens_utils.axes import Tokens
from lens_utils.hooked_transformer.config import HookedTransformerConfig


class TextMethods(nn.Module):
    """Tokenisation in TransformerLens' method names. Batches are padded on the right."""

    cfg: HookedTransformerConfig
    tokenizer: Any
    W_U: Any

    def _require_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise ValueError(f"model {self.cfg.model_name!r} has no tokenizer: pass tokens instead of text")
        return self.tokenizer

    def _token_ids(self, text: str, prepend_bos: bool | None) -> list[int]:
        tokenizer = self._require_tokenizer()
        special = self.cfg.default_prepend_bos if prepend_bos is None else prepend_bos
        if self.cfg.is_masked:
            return tokenizer.encode(text, add_special_tokens=special, verbose=False)
        # The model checks lengths itself, with the limit that its positions have
        ids = tokenizer.encode(text, add_special_tokens=False, verbose=False)
        if not special:
            return ids
        if tokenizer.bos_token_id is None:
            raise ValueError("prepend_bos=True: this tokenizer has no beginning-of-text token; pass prepend_bos=False")
        return [tokenizer.bos_token_id, *ids]

    def tokenize(
        self, texts: str | Sequence[str], prepend_bos: bool | None = None
    ) -> tuple[Tokens, Int[Tensor, "batch pos"]]:
        """Tokens of each text, padded on the right, and the mask that tells real tokens (1) from padding (0).

        `prepend_bos` adds the beginning-of-text token, or [CLS] ... [SEP] for a masked model; None means the model's
        default. An empty text without special tokens is an error.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("texts=[]: give at least one text")
        rows = [self._token_ids(text, prepend_bos) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise ValueError(f"text {text!r} has no tokens (prepend_bos={prepend_bos})")
        tokenizer = self._require_tokenizer()
        pad = next((t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if t is not None), 0)
        longest = max(map(len, rows))
        tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return tokens.to(self.device), mask.to(self.device)

    def to_tokens(self, text: str | Sequence[str], prepend_bos: bool | None = None) -> Tokens:
        """Tokens of one or more texts, padded on the right; `tokenize` returns the mask too."""
        return self.tokenize(text, prepend_bos)[0]

    def to_str_tokens(
        self, text: str | Int[Tensor, "*pos"] | Sequence[int], prepend_bos: bool | None = None
    ) -> list[str]:
        """Each token as the text it stands for, its leading space included where the tokenizer keeps spaces."""
        tokenizer = self._require_tokenizer()
        ids = self._token_ids(text, prepend_bos) if isinstance(text, str) else torch.as_tensor(text).flatten().tolist()
        return [tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids]

    def to_string(self, tokens: Int[Tensor, "*axes"] | Sequence[int]) -> str | list[str]:
        """The text of one row of tokens, or of each row of a batch."""
        tokenizer = self._require_tokenizer()
        rows = torch.as_tensor(tokens)
        if rows.ndim == 2:
            return [tokenizer.decode(row.tolist()) for row in rows]
        return tokenizer.decode(rows.flatten().tolist())

    def to_single_token(self, string: str) -> int:
        """The one token that `string` is; an error that shows its tokens if it is not one."""
        ids = self._token_ids(string, prepend_bos=False)
        if len(ids) != 1:
            raise ValueError(f"string={string!r} is {len(ids)} tokens, not one: {self.to_str_tokens(ids)}")
        return ids[0]

    def to_single_str_token(self, token: int) -> str:
        """The text of one token."""
        return self.to_str_tokens([token])[0]

    def get_token_position(self, single_token: str | int, text: str, prepend_bos: bool | None = None) -> int:
        """First position of a token in a text; an error if it is not there."""
        token = self.to_single_token(single_token) if isinstance(single_token, str) else single_token
        ids = self._token_ids(text, prepend_bos)
        if token not in ids:
            raise ValueError(f"single_token={single_token!r} does not occur in {self.to_str_tokens(ids)}")
        return ids.index(token)

    def tokens_to_residual_directions(
        self, tokens: str | int | Int[Tensor, "*axes"]
    ) -> Float[Tensor, "d_model"] | Float[Tensor, "*axes d_model"]:
        """Columns of W_U: the direction of the residual stream that raises each token's logit."""
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        columns = torch.as_tensor(tokens, device=self.device)
        return self.W_U.T[columns.squeeze()] if columns.numel() == 1 else self.W_U.T[columns]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
