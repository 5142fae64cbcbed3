"""Cross-entropy of causal and of masked language models, in nats."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.axes import Logits, Mask, Tokens

IGNORED = -100
"""Label of positions that do not count in a masked-language-model loss."""


def causal_loss(
    logits: Logits, tokens: Tokens, attention_mask: Mask | None = None, *, per_token: bool = False
) -> Float[Tensor, ""] | Float[Tensor, "batch pos_minus_1"]:
    """-log p(next token) at each position but the last: its mean, or each value; 0 where either token is padding."""
    log_probs = logits[:, :-1].log_softmax(-1)
    loss = -log_probs.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    if attention_mask is None:
        return loss if per_token else loss.mean()
    real = attention_mask.bool()
    counted = real[:, 1:] & real[:, :-1]
    loss = torch.where(counted, loss, 0.0)
    return loss if per_token else loss.sum() / counted.sum()


def masked_loss(
    logits: Logits, labels: Int[Tensor, "batch pos"], *, per_token: bool = False
) -> Float[Tensor, ""] | Float[Tensor, "batch pos"]:
    """-log p(label) where the label is not -100: its mean, or each value with 0 elsewhere."""
    counted = labels != IGNORED
    log_probs = logits.log_softmax(-1)
    loss = -log_probs.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    loss = torch.where(counted, loss, 0.0)
    return loss if per_token else loss.sum() / counted.sum()
