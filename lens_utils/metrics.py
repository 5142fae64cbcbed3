"""What an intervention is judged by: one number for each prompt, from the logits where the answer is predicted."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Metric = Literal["logit_diff", "loss", "kl"]
METRICS: tuple[Metric, ...] = ("logit_diff", "loss", "kl")


def logit_diff(
    logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"], wrong: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Logit of the answer minus logit of the wrong answer, in nats; positive where the answer is preferred."""
    return _at(logits, answers) - _at(logits, wrong)


def loss(logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """-log p(answer) in nats."""
    return -_at(logits.log_softmax(-1), answers)


def kl(logits: Float[Tensor, "batch vocab"], reference: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """KL(reference || logits) in nats: what is lost by predicting with `logits` where `reference` is the truth."""
    log_p, log_q = reference.log_softmax(-1), logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def accuracy(logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """1 where the answer has the highest logit of the whole vocabulary, else 0."""
    return (logits.argmax(-1) == answers).to(logits.dtype)


def normalised(
    values: Float[Tensor, "*axes"], corrupted: Float[Tensor, "*#axes"], clean: Float[Tensor, "*#axes"]
) -> Float[Tensor, "*axes"]:
    """(value - corrupted) / (clean - corrupted): 0 is the corrupted run, 1 the clean one; nan where these agree."""
    gap = clean - corrupted
    return (values - corrupted) / torch.where(gap == 0, torch.nan, gap)


def _at(values: Float[Tensor, "batch vocab"], tokens: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return values.gather(1, tokens.to(values.device)[:, None]).squeeze(1)
