"""Labels of heads: which of their scores are findings, and what a labelled head does in words.

A head gets a label when all of this holds:
1. the lower bound of its lift (95 %, bootstrap over prompts) reaches the rule's threshold, which is calibrated on
   planted heads of known kind (`python -m experiments.ground_truth`, which also tries models with shuffled weights);
2. its excess over a uniform head survives Benjamini-Hochberg at 5 % over all heads and rules;
3. no other rule explains it. Target sets overlap: the previous token mostly lies in the same clause. Rule X explains
   rule Y in a head when X has at least three quarters of Y's lift, and less than half of Y's lift is left on those
   targets of Y that are no targets of X. If each explains the other, the higher lift stays;
4. distance does not explain it: a head that looks at the last few tokens wherever clauses begin is no clause head.
   Beyond the score that its mean attention at each distance would give, at least half of the lift is left. Rules
   about distance itself (`previous`, `offset-k`, ...) are exempt.

'None' is an answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils.head_scores import HeadScores
from lens_utils.statistics import benjamini_hochberg
from lens_utils.target_rules import is_distance, phrase

LEVEL = 0.05
"""Share of false discoveries that condition 2 allows."""
FLOOR = 0.2
"""No threshold is lower, and a rule below this lift explains nothing."""
THRESHOLDS: Mapping[str, float] = {
    "current": 0.21,
    "previous": 0.42,
    "offset-2": 0.3,
    "offset-3": 0.29,
    "next": 0.2,
    "recent": 0.51,
    "first": 0.25,
    "duplicate": 0.2,
    "induction": 0.2,
    "pivot": 0.31,
    "clause start": 0.49,
    "opening quote": 0.31,
    "speaker": 0.2,
    "proper noun": 0.24,
    "same clause": 0.27,
    "subject": 0.36,
    "conjunction": 0.52,
}
"""Least lower bound of the lift, by rule: calibrated by `experiments.ground_truth`, which checks these numbers."""


@dataclass(frozen=True)
class HeadEvidence:
    """What speaks for and against each label of each head."""

    rules: tuple[str, ...]
    lift: Float[Tensor, "rule layer head"]
    low: Float[Tensor, "rule layer head"]
    """Lower bound of the lift."""
    high: Float[Tensor, "rule layer head"]
    """Upper bound of the lift."""
    score_bounds: Float[Tensor, "bound rule layer head"]
    """Lower and upper bound of the score."""
    p: Float[Tensor, "rule layer head"]
    """Against a uniform head; nan where a rule has no rows."""
    q: Float[Tensor, "rule layer head"]
    """p adjusted for all heads and rules."""
    explained: Bool[Tensor, "rule layer head"]
    """Whether another rule, or distance, explains the lift."""

    @classmethod
    def of(cls, scores: HeadScores, *, seed: int) -> "HeadEvidence":
        """Intervals, tests and rivals of all scores."""
        score_bounds, (low, high) = scores.intervals(seed=seed)
        p = scores.p_values(seed=seed)
        explained = explained_by_another(scores) | explained_by_distance(scores)
        return cls(scores.rules, scores.lift, low, high, score_bounds, p, benjamini_hochberg(p), explained)

    @property
    def admissible(self) -> Bool[Tensor, "rule layer head"]:
        """Conditions 2 to 4."""
        return (self.q < LEVEL) & ~self.explained

    def labels(self, thresholds: Mapping[str, float]) -> Bool[Tensor, "rule layer head"]:
        """All conditions; a rule without a threshold of its own takes the highest one."""
        strictest = max(thresholds.values(), default=FLOOR)
        least = torch.tensor([thresholds.get(rule, strictest) for rule in self.rules], dtype=torch.float64)
        return (self.low >= least[:, None, None]) & self.admissible

    def names(self, labels: Bool[Tensor, "rule layer head"], layer: int, head: int) -> tuple[str, ...]:
        """The labels of one head, the highest lift first."""
        found = [index for index in range(len(self.rules)) if labels[index, layer, head]]
        return tuple(self.rules[index] for index in sorted(found, key=lambda index: -self.lift[index, layer, head]))


def explained_by_another(scores: HeadScores) -> Bool[Tensor, "rule layer head"]:
    """Whether some other rule explains the lift of a rule (condition 3 of the module's docstring)."""
    lift = scores.lift.nan_to_num(-1.0)
    present = lift >= FLOOR
    explains = (scores.beyond < lift[:, None] / 2) & (lift[None] >= 0.75 * lift[:, None])
    explains &= present[None] & present[:, None]
    order = torch.arange(len(scores.rules))
    ahead = (lift[:, None] > lift[None]) | ((lift[:, None] == lift[None]) & (order[:, None] < order)[:, :, None, None])
    mutual = explains & explains.transpose(0, 1)
    explains = explains & ~(mutual & ahead)
    return (explains & ~torch.eye(len(order), dtype=torch.bool)[:, :, None, None]).any(1)


def explained_by_distance(scores: HeadScores) -> Bool[Tensor, "rule layer head"]:
    """Whether the head's attention by distance explains the lift of a rule (condition 4)."""
    exempt = torch.tensor([is_distance(rule) for rule in scores.rules])[:, None, None]
    return (scores.lift_beyond_distance < scores.lift / 2) & (scores.lift >= FLOOR) & ~exempt


def describe(labels: tuple[str, ...]) -> str:
    """One sentence on a head with these labels, the strongest first."""
    if not labels:
        return "No rule describes it"
    phrases = [phrase(label) for label in labels]
    return f"Attends {phrases[0]}" + "".join(f"; {each}" for each in phrases[1:])
