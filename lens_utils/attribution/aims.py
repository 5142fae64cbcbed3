"""The number that is decomposed, as a linear function of the logits, and the same for tokens of other prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.attribution.questions import Question, Target
from lens_utils.hooked_transformer import HookedTransformer

LEAST_SHUFFLED = 5
"""Prompts whose aims are shuffled, at least: 5 can be ordered in 120 ways, fewer tell nothing."""
RANDOM_AIMS = 64
"""Random tokens (pairs of tokens) of the null where there are fewer, or all ask for the same."""


@dataclass(frozen=True)
class Aim:
    """Logit of `token`, minus that of `wrong` if there is one, minus the mean logit if `over_mean`; in nats."""

    token: int
    wrong: int | None = None
    over_mean: bool = False

    @property
    def sides(self) -> "tuple[Aim, ...]":
        """Of a difference of two tokens, each of them over the mean logit; nothing else has sides."""
        tokens = () if self.wrong is None else (self.token, self.wrong)
        return tuple(Aim(token, over_mean=True) for token in tokens)

    def of(self, logits: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
        """The aim of logits; and as it is linear, of W_U [d_model, vocab] the direction that it reads."""
        value = logits[..., self.token]
        if self.wrong is not None:
            value = value - logits[..., self.wrong]
        return value - logits.mean(-1) if self.over_mean else value


def aim_of(question: Question, target: Target, logits: Float[Tensor, " vocab"]) -> Aim:
    """What `target` means for this question; `top` is the token with the highest of these logits, over their mean.

    Raises `ValueError` where a question without an answer is asked for one.
    """
    if target == "top":
        return Aim(int(logits.argmax()), over_mean=True)
    if question.pair is None:
        raise ValueError(f"target={target!r}: {question.text.text!r} has no answer; choose 'top'")
    pair = question.pair
    return Aim(pair.answer, pair.wrong) if target == "answer_minus_wrong" else Aim(pair.answer)


def all_of(aims: Sequence[Aim], logits: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes target"]:
    """`Aim.of` for many aims at once."""
    chosen = torch.tensor([[aim.token, aim.wrong or 0] for aim in aims], device=logits.device)
    kinds = torch.tensor([[aim.wrong is not None, aim.over_mean] for aim in aims], device=logits.device).to(logits)
    values = logits[..., chosen[:, 0]] - logits[..., chosen[:, 1]] * kinds[:, 0]
    return values - logits.mean(-1, keepdim=True) * kinds[:, 1] if bool(kinds[:, 1].any()) else values


def directions(model: HookedTransformer, aims: Sequence[Aim]) -> Float[Tensor, "target d_model"]:
    """W_U d of each aim: what the vector in front of the unembedding is multiplied with."""
    return all_of(aims, model.W_U.detach()).T


def offsets(model: HookedTransformer, aims: Sequence[Aim]) -> Float[Tensor, " target"]:
    """b_U d of each aim."""
    return all_of(aims, model.b_U.detach())


@dataclass(frozen=True)
class NullAims:
    """Aims that have nothing to do with the prompt they are asked of."""

    pool: tuple[Aim, ...]
    draws: Int[Tensor, "shuffle prompt"]
    """Which of the pool each prompt is asked in each shuffle."""
    statement: str
    """What the null is, in words."""


def check_count(name: str, value: int) -> None:
    """Raise `ValueError` naming what was asked for below 1."""
    if value < 1:
        raise ValueError(f"{name}={value!r}: must be at least 1")


def null_aims(model: HookedTransformer, aims: Sequence[Aim], *, n_shuffles: int, seed: int) -> NullAims:
    """The prompts' own aims, permuted over the prompts; random tokens for few prompts (`LEAST_SHUFFLED`) or one aim.

    Random tokens are drawn from the vocabulary without its special tokens. Raises `ValueError` for n_shuffles < 1.
    """
    check_count("n_shuffles", n_shuffles)
    generator = torch.Generator().manual_seed(seed)
    n = len(aims)
    if n >= LEAST_SHUFFLED and len(set(aims)) > 1:
        draws = torch.stack([torch.randperm(n, generator=generator) for _ in range(n_shuffles)])
        what = "tokens" if aims[0].wrong is None else "answer and wrong answer"
        return NullAims(tuple(aims), draws, f"the {what} asked for are shuffled over the {n} prompts")
    special = set(getattr(model.tokenizer, "all_special_ids", ()))
    words = torch.tensor([token for token in range(model.cfg.d_vocab) if token not in special])
    pool = []
    for _ in range(RANDOM_AIMS):
        token, wrong = words[torch.randperm(len(words), generator=generator)[:2]].tolist()
        pool.append(Aim(token, None if aims[0].wrong is None else wrong, aims[0].over_mean))
    draws = torch.randint(RANDOM_AIMS, (n_shuffles, n), generator=generator)
    what = "a random token is" if aims[0].wrong is None else "two random tokens are"
    return NullAims(tuple(pool), draws, f"{what} asked for instead")
