"""Trials of head labels: heads of known kind, thresholds calibrated on some of them, errors counted on others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils.head_labels import FLOOR, HeadEvidence
from lens_utils.head_scores import score_heads
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.null_models import shuffled_weights
from lens_utils.planted.bench import NONE, bench, with_noise
from lens_utils.planted.texts import planted_texts
from lens_utils.prompts import TokenizedText

MARGIN = 0.1
"""A threshold lies this share of the way from the strongest head of another kind up to 1."""
PLANTED_TEXTS = 32
CALIBRATION_SEED = 1_000_000
"""First of the seeds that thresholds are calibrated on; results are reported on others."""
CLEAN, STATED = math.inf, 8.0
"""Signal-to-noise ratios that thresholds are calibrated at; at the second, precision and recall must still be 0.95."""


@dataclass(frozen=True)
class Trial:
    """The heads of one model: what each is, and the evidence found."""

    kinds: tuple[tuple[str, ...], ...]
    """[layer][head]; `NONE` for a head that has no rule."""
    evidence: HeadEvidence

    def is_kind(self, rule: str) -> torch.Tensor:
        """Which heads follow the rule, [layer, head]."""
        return torch.tensor([[kind == rule for kind in kinds] for kinds in self.kinds])


def planted_trial(n_ctx: int, *, seed: int, bidirectional: bool, ratio: float = math.inf) -> Trial:
    """The bench at one signal-to-noise ratio, on texts of its own."""
    made = bench(n_ctx, seed=seed, bidirectional=bidirectional)
    model = made.model if math.isinf(ratio) else with_noise(made.model, ratio, seed=seed)
    return Trial(made.kinds, evidence_on(model, planted_texts(PLANTED_TEXTS, n_ctx, seed=seed), seed=seed))


def planted_trials(seeds: Sequence[int], *, ratio: float, bidirectional: Sequence[bool] = (False, True)) -> list[Trial]:
    """A trial for each seed and direction; contexts of 64 and 48 tokens in turn."""
    return [
        planted_trial(48 if seed % 2 else 64, seed=seed, bidirectional=both, ratio=ratio)
        for seed in seeds
        for both in bidirectional
    ]


def null_trial(model: HookedTransformer, texts: Sequence[TokenizedText], *, seed: int) -> Trial:
    """The model with its weights shuffled: no head of it follows a rule."""
    kinds = ((NONE,) * model.cfg.n_heads,) * model.cfg.n_layers
    return Trial(kinds, evidence_on(shuffled_weights(model, seed=seed), texts, seed=seed))


def evidence_on(model: HookedTransformer, texts: Sequence[TokenizedText], *, seed: int) -> HeadEvidence:
    """Scores of all rules and what speaks for and against their labels."""
    return HeadEvidence.of(score_heads(model, texts), seed=seed)


def strongest_other(trials: Sequence[Trial], rule: str) -> float:
    """The largest lower bound of a rule's lift among heads of other kinds where no other rule explains it."""
    index, highest = trials[0].evidence.rules.index(rule), 0.0
    for trial in trials:
        wrong = trial.evidence.admissible[index] & ~trial.is_kind(rule)
        highest = max([highest, *trial.evidence.low[index][wrong].tolist()])
    return highest


def weakest_own(trials: Sequence[Trial], rule: str) -> float:
    """The smallest lower bound of a rule's lift among heads of its kind."""
    index = trials[0].evidence.rules.index(rule)
    return min(
        [low for trial in trials for low in trial.evidence.low[index][trial.is_kind(rule)].tolist()], default=math.nan
    )


def calibrated(trials: Sequence[Trial]) -> dict[str, float]:
    """A threshold for each rule: `MARGIN` of the way to 1 from the strongest head of another kind; at least `FLOOR`,
    rounded up to two decimals."""
    highest = {rule: strongest_other(trials, rule) for rule in trials[0].evidence.rules}
    return {rule: max(FLOOR, math.ceil(100 * (other + MARGIN * (1 - other))) / 100) for rule, other in highest.items()}


@dataclass(frozen=True)
class Performance:
    """How often the label of one rule is right."""

    rule: str
    planted: int
    right: int
    wrong: int
    """Heads that have the label and should not."""
    auc: float
    """Chance that the lift of a head of this kind exceeds that of another head; nan where no head is of this kind."""

    @property
    def precision(self) -> float:
        """Share of labels that are right; nan without a label."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else math.nan

    @property
    def recall(self) -> float:
        """Share of heads of this kind that are labelled; nan where there is none."""
        return self.right / self.planted if self.planted else math.nan

    @property
    def f1(self) -> float:
        """2 right / (2 right + wrong + missed)."""
        both = self.right + self.wrong + self.planted
        return 2 * self.right / both if both else math.nan


def performance(trials: Sequence[Trial], thresholds: Mapping[str, float]) -> tuple[Performance, ...]:
    """Each rule over the heads of all trials."""
    found = []
    labels = [trial.evidence.labels(thresholds) for trial in trials]
    for index, rule in enumerate(trials[0].evidence.rules):
        truth = torch.cat([trial.is_kind(rule).flatten() for trial in trials])
        given = torch.cat([each[index].flatten() for each in labels])
        lift = torch.cat([trial.evidence.lift[index].flatten() for trial in trials])
        right, wrong = int((truth & given).sum()), int((~truth & given).sum())
        found.append(Performance(rule, int(truth.sum()), right, wrong, _auc(lift, truth)))
    return tuple(found)


def _auc(score: Float[Tensor, " head"], truth: Tensor) -> float:
    known = ~score.isnan()
    ours, others = score[known & truth], score[known & ~truth]
    if not len(ours) or not len(others):
        return math.nan
    above = (ours[:, None] > others).double() + (ours[:, None] == others).double() / 2
    return above.mean().item()


def confusion(trials: Sequence[Trial], thresholds: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """[kind][label]: heads of a kind that have a label; the label `NONE` counts those without any."""
    rules = trials[0].evidence.rules
    counts = {kind: dict.fromkeys((*rules, NONE), 0) for kind in (*rules, NONE)}
    for trial in trials:
        labels = trial.evidence.labels(thresholds)
        for layer, kinds in enumerate(trial.kinds):
            for head, kind in enumerate(kinds):
                for name in trial.evidence.names(labels, layer, head) or (NONE,):
                    counts[kind][name] += 1
    return counts


def score_error(trials: Sequence[Trial]) -> float:
    """How far the score of any planted head under its own rule is from 1."""
    errors = [0.0]
    for trial in trials:
        for index, rule in enumerate(trial.evidence.rules):
            # Score bounds are taken at the same heads; without noise they coincide with the score
            bounds = trial.evidence.score_bounds[:, index][:, trial.is_kind(rule)]
            errors += (bounds - 1).abs().flatten().tolist()
    return max(errors)


def unlabelled_share(trials: Sequence[Trial], thresholds: Mapping[str, float]) -> float:
    """Share of heads without any label."""
    labelled = torch.cat([trial.evidence.labels(thresholds).any(0).flatten() for trial in trials])
    return 1 - labelled.double().mean().item()
