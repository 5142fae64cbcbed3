"""What a HookedTransformer is given, checked before any computation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lens_utils.axes import Resid, Tokens
from lens_utils.hooked_transformer.config import HookedTransformerConfig
from lens_utils.hooked_transformer.text import TextMethods

RETURN_TYPES = ("logits", "loss", "both", None)


@dataclass(frozen=True)
class ModelInput:
    """Checked input: tokens, or the residual stream to start from; a mask only where something is padded."""

    tokens: Tokens | None
    resid: Resid | None
    attention_mask: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, pos)."""
        given = self.tokens if self.resid is None else self.resid
        assert given is not None
        return given.shape[0], given.shape[1]


class InputChecks(TextMethods, nn.Module):
    """Turns text into tokens, and refuses what the model cannot mean."""

    cfg: HookedTransformerConfig

    def _layer_range(self, start_at_layer: int | None, stop_at_layer: int | None) -> tuple[int, int]:
        n_layers = self.cfg.n_layers
        bounds = []
        for name, value, default in (("start_at_layer", start_at_layer, 0), ("stop_at_layer", stop_at_layer, n_layers)):
            layer = default if value is None else value + n_layers if value < 0 else value
            if not 0 <= layer <= n_layers:
                raise ValueError(f"{name}={value}: the model has {n_layers} layers; choose 0 to {n_layers}")
            bounds.append(layer)
        if bounds[0] > bounds[1]:
            raise ValueError(f"start_at_layer={start_at_layer} comes after stop_at_layer={stop_at_layer}")
        return bounds[0], bounds[1]

    def _read_input(
        self,
        input: Any,
        attention_mask: Tensor | None,
        prepend_bos: bool | None,
        tokens: Tokens | None,
        from_resid: bool,
    ) -> ModelInput:
        if from_resid:
            given = ModelInput(tokens, self._checked_resid(input), attention_mask)
        elif isinstance(input, Tensor):
            given = ModelInput(self._checked_tokens(input), None, attention_mask)
        elif attention_mask is not None:
            raise ValueError("attention_mask is for tokens; text is padded and masked here")
        else:
            text_tokens, mask = self.tokenize(input, prepend_bos)
            given = ModelInput(text_tokens, None, mask)
        batch, n_pos = given.shape
        if n_pos > self.cfg.n_ctx:
            raise ValueError(f"input has {n_pos} positions: {self.cfg.model_name!r} has a context of {self.cfg.n_ctx}")
        mask = given.attention_mask
        if mask is not None and mask.shape != (batch, n_pos):
            raise ValueError(f"attention_mask has shape {list(mask.shape)}: the input needs {[batch, n_pos]}")
        return replace(given, attention_mask=None) if mask is not None and bool(mask.all()) else given

    def _checked_tokens(self, tokens: Tensor) -> Tokens:
        if tokens.is_floating_point():
            raise ValueError(f"input has dtype {tokens.dtype}: a residual stream needs start_at_layer")
        rows = tokens[None] if tokens.ndim == 1 else tokens
        if rows.ndim != 2 or rows.numel() == 0:
            raise ValueError(f"input has shape {list(tokens.shape)}: tokens are [batch, pos] with at least one token")
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= self.cfg.d_vocab:
            raise ValueError(f"input has token {low if low < 0 else high}: valid are 0 to {self.cfg.d_vocab - 1}")
        return rows

    def _checked_resid(self, resid: Any) -> Resid:
        if not isinstance(resid, Tensor) or not resid.is_floating_point():
            raise ValueError("start_at_layer needs a residual stream as input; pass the tokens as tokens=")
        if resid.ndim != 3 or resid.shape[-1] != self.cfg.d_model or resid.shape[1] == 0:
            raise ValueError(f"input has shape {list(resid.shape)}: a residual is [batch, pos, {self.cfg.d_model}]")
        return resid

    def _check_return(self, return_type: Any, given: ModelInput, labels: Tokens | None, logit_positions: Any) -> None:
        if return_type not in RETURN_TYPES:
            raise ValueError(f"return_type={return_type!r}: choose one of {', '.join(map(repr, RETURN_TYPES))}")
        if return_type not in ("loss", "both"):
            return
        if logit_positions is not None:
            raise ValueError(f"return_type={return_type!r} needs every position; leave out logit_positions")
        if self.cfg.is_masked and labels is None:
            raise ValueError(
                f"return_type={return_type!r}: {self.cfg.model_name!r} is a masked model, the next-token loss is "
                "meaningless there; pass labels (the token at masked positions, -100 elsewhere)"
            )
        if not self.cfg.is_masked and labels is not None:
            raise ValueError("labels are for masked models; the loss of a causal model is about its own tokens")
        if not self.cfg.is_masked and given.tokens is None:
            raise ValueError(f"return_type={return_type!r} from a residual stream needs tokens")


def at_positions(
    resid: Float[Tensor, "batch pos d_model"], positions: Sequence[int] | Int[Tensor, "batch answers"] | None
) -> Float[Tensor, "batch answers d_model"]:
    """The residual stream at chosen positions: the same for all rows, or [batch, answers]; None keeps all.

    Negative positions count from the end; one out of range is an error.
    """
    if positions is None:
        return resid
    n_pos = resid.shape[1]
    index = torch.as_tensor(positions, device=resid.device)
    if index.numel() and not bool(((index >= -n_pos) & (index < n_pos)).all()):
        raise ValueError(f"logit_positions={index.tolist()}: the input has {n_pos} positions")
    index = index % n_pos
    if index.ndim == 1:
        return resid[:, index]
    if index.ndim != 2 or index.shape[0] != resid.shape[0]:
        raise ValueError(
            f"logit_positions has shape {list(index.shape)}: give [answers] or [{resid.shape[0]}, answers]"
        )
    return resid.gather(1, index[..., None].expand(-1, -1, resid.shape[-1]))
