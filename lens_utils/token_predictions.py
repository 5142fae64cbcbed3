"""What a model says of each token of a text: its log-probability, its rank, and what it held likeliest.

A causal model predicts each token from those before it. A masked model is asked with the token masked, one position at
a time (pseudo-log-probability, Salazar et al. 2020). The two read different contexts: their numbers do not compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.loss import IGNORED
from lens_utils.identities import Identity
from lens_utils.prompts import TokenizedText

TOKENS_AT_ONCE = 2048
"""Tokens of one forward pass over masked copies of a text: bounds the memory."""


@dataclass(frozen=True)
class TokenPredictions:
    """Of each position that is predicted: all but the first of a causal model, all but special tokens of a masked."""

    positions: tuple[int, ...]
    log_prob: Float[Tensor, " predicted"]
    """Of the token that stands there, in nats; minus this is its loss."""
    rank: Int[Tensor, " predicted"]
    """How many tokens the model held likelier: 0 is its first choice."""
    top_tokens: Int[Tensor, "predicted k"]
    """The likeliest tokens, likeliest first."""
    top_log_probs: Float[Tensor, "predicted k"]
    """Their log-probabilities, in nats."""


def predicted_positions(model: HookedTransformer, text: TokenizedText) -> tuple[int, ...]:
    """The positions that have a prediction; none where a causal text is one token, or a masked one only special.

    Raises `ValueError` for a masked model whose tokenizer has no mask token.
    """
    if not model.cfg.is_masked:
        return tuple(range(1, len(text)))
    _mask_token(model)
    return tuple(pos for pos, name in enumerate(text.classes) if name != "special")


def _mask_token(model: HookedTransformer) -> int:
    token = getattr(model.tokenizer, "mask_token_id", None)
    if token is None:
        raise ValueError(
            f"model {model.cfg.model_name!r}: its tokenizer has no mask token, so no token can be asked for"
        )
    return int(token)


def token_predictions(model: HookedTransformer, text: TokenizedText, *, k: int = 10) -> TokenPredictions:
    """Predictions at every position that has one; `k` (at most the vocabulary) likeliest tokens each.

    Raises `ValueError` when `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k!r}: must be at least 1")
    k = min(k, model.cfg.d_vocab)
    positions = predicted_positions(model, text)
    if not positions:
        nothing = torch.zeros(0, dtype=torch.long)
        return TokenPredictions((), torch.zeros(0), nothing, nothing.reshape(0, k), torch.zeros(0, k))
    read = _masked_logits if model.cfg.is_masked else _causal_logits
    tokens, parts = text.tokens[list(positions)], []
    start = 0
    for logits in read(model, text, positions):
        log_probs = logits.log_softmax(-1).cpu()
        own = log_probs.gather(1, tokens[start : start + len(log_probs), None])
        # The true token's own entry never exceeds itself, so a tie leaves it in front
        parts.append((own[:, 0], (log_probs > own).sum(-1), *log_probs.topk(k, dim=-1)))
        start += len(log_probs)
    log_prob, rank, top_log_probs, top_tokens = (torch.cat(each) for each in zip(*parts, strict=True))
    return TokenPredictions(positions, log_prob, rank, top_tokens, top_log_probs)


def _causal_logits(
    model: HookedTransformer, text: TokenizedText, positions: tuple[int, ...]
) -> Iterator[Float[Tensor, "predicted vocab"]]:
    with torch.inference_mode():
        yield model(text.tokens[None].to(model.device), logit_positions=[pos - 1 for pos in positions])[0]


def _masked_logits(
    model: HookedTransformer, text: TokenizedText, positions: tuple[int, ...]
) -> Iterator[Float[Tensor, "predicted vocab"]]:
    at_once = max(1, TOKENS_AT_ONCE // len(text))
    for chosen in torch.tensor(positions).split(at_once):
        with torch.inference_mode():
            yield model(masked_copies(model, text, chosen).to(model.device), logit_positions=chosen[:, None])[:, 0]


def masked_copies(
    model: HookedTransformer, text: TokenizedText, positions: Int[Tensor, " copy"]
) -> Int[Tensor, "copy pos"]:
    """The text once a position, with that position masked."""
    return text.tokens.repeat(len(positions), 1).scatter(1, positions[:, None], _mask_token(model))


def prediction_identities(
    model: HookedTransformer, text: TokenizedText, found: TokenPredictions
) -> tuple[Identity, ...]:
    """Minus the mean log-probability against the model's own loss; a masked model is asked one token at a time.

    Float32 logits differ by rounding between batches of different shape: 1e-4 nats leaves room for it.
    """
    if not found.positions:
        return ()
    if not model.cfg.is_masked:
        with torch.inference_mode():
            loss = float(model(text.tokens[None].to(model.device), "loss"))
        error = abs(loss + float(found.log_prob.double().mean()))
        return (Identity("losses", "mean of -log p over tokens = the model's loss, nats", error, 1e-4),)
    some = sorted({0, len(found.positions) // 2, len(found.positions) - 1})
    errors = [abs(_loss_at(model, text, found.positions[index]) + float(found.log_prob[index])) for index in some]
    statement = f"-log p from batched copies = the model's loss on one copy, nats ({len(some)} tokens)"
    return (Identity("pseudo-losses", statement, max(errors), 1e-4),)


def _loss_at(model: HookedTransformer, text: TokenizedText, pos: int) -> float:
    labels = torch.full_like(text.tokens, IGNORED)
    labels[pos] = text.tokens[pos]
    given = masked_copies(model, text, torch.tensor([pos]))
    with torch.inference_mode():
        return float(model(given.to(model.device), "loss", labels=labels[None].to(model.device)))
