"""What a model says of each token of a text: log-probability, rank, and what it would rather have said.

Causal models predict a token from those before it. Masked models are asked with the token masked, one position at a
time (pseudo-log-probability, Salazar et al. 2020); the numbers of the two kinds do not compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText

_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class TokenPredictions:
    """Of each position that can be predicted: not the first of a causal model, no special token of a masked one."""

    positions: tuple[int, ...]
    log_prob: Float[Tensor, " predicted"]
    """Of the token that stands there, nats."""
    rank: Int[Tensor, " predicted"]
    """Tokens that the model held more likely; 0 is best."""
    top_tokens: Int[Tensor, "predicted k"]
    """The likeliest tokens."""
    top_log_probs: Float[Tensor, "predicted k"]


def token_predictions(model: HookedTransformer, text: TokenizedText, *, k: int = 10) -> TokenPredictions:
    """Predictions of every position that has one.

    Raises `ValueError` for a masked model whose tokenizer has no mask token, and when nothing can be predicted.
    """
    if model.cfg.is_masked:
        positions = tuple(pos for pos, name in enumerate(text.classes) if name != "special")
        logits = _masked_logits(model, text, positions)
    else:
        positions = tuple(range(1, len(text)))
        logits = _causal_logits(model, text)
    if not positions:
        raise ValueError(f"prompt {text.index} ({text.text!r}) has no token to predict: give a longer one")
    log_probs = torch.cat([each.log_softmax(-1).cpu() for each in logits])
    tokens = text.tokens[list(positions)]
    own = log_probs.gather(1, tokens[:, None])
    top = log_probs.topk(min(k, log_probs.shape[1]), dim=-1)
    return TokenPredictions(positions, own[:, 0], (log_probs > own).sum(-1), top.indices, top.values)


def _causal_logits(model: HookedTransformer, text: TokenizedText) -> list[Float[Tensor, "pos d_vocab"]]:
    if len(text) < 2:
        return []
    with torch.inference_mode():
        return [model(text.tokens[None].to(model.device))[0, :-1]]


def _masked_logits(
    model: HookedTransformer, text: TokenizedText, positions: tuple[int, ...]
) -> Iterator[Float[Tensor, "predicted d_vocab"]]:
    mask = getattr(model.tokenizer, "mask_token_id", None)
    if mask is None:
        raise ValueError(f"model {model.cfg.model_name!r}: its tokenizer has no mask token, so nothing can be asked")
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        chosen = torch.tensor(positions[start : start + _ROWS_AT_ONCE])
        rows = text.tokens.repeat(len(chosen), 1)
        each = torch.arange(len(chosen))
        rows[each, chosen] = mask
        with torch.inference_mode():
            yield model(rows.to(model.device))[each, chosen]
