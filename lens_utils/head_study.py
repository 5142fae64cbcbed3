"""The heads of one model: scores, what speaks for each label, labels, and the same measured where there is nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils.head_labels import THRESHOLDS, HeadEvidence
from lens_utils.head_scores import HeadScores, joined, score_heads
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.null_models import shuffled_texts, shuffled_weights
from lens_utils.prompts import TokenizedText
from lens_utils.target_rules import PROBE


@dataclass(frozen=True)
class HeadStudy:
    """Everything the head tables show."""

    scores: HeadScores
    evidence: HeadEvidence
    labels: Bool[Tensor, "rule layer head"]
    thresholds: Mapping[str, float]
    shuffled_text: Float[Tensor, "rule layer head"]
    """Lift on shuffled texts."""
    shuffled_weights: Float[Tensor, " rule"]
    """Largest lift of a model with shuffled weights."""

    @property
    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of every head."""
        _, n_layers, n_heads = self.labels.shape
        return [(layer, head) for layer in range(n_layers) for head in range(n_heads)]

    def names(self, layer: int, head: int) -> tuple[str, ...]:
        """A head's labels, the strongest first."""
        return self.evidence.names(self.labels, layer, head)


def study_heads(
    model: HookedTransformer,
    texts: Sequence[TokenizedText],
    repeats: Sequence[TokenizedText],
    rules: Sequence[str],
    *,
    seed: int,
) -> HeadStudy:
    """Every head under every rule on `texts`, induction on `repeats` besides (none to leave it out), and the nulls."""
    scores = _scores(model, texts, repeats, rules)
    evidence = HeadEvidence.of(scores, seed=seed)
    scrambled = _scores(model, shuffled_texts(texts, seed=seed), shuffled_texts(repeats, seed=seed), rules)
    null = _scores(shuffled_weights(model, seed=seed), texts, repeats, rules)
    thresholds = {**THRESHOLDS, PROBE: THRESHOLDS["induction"]}
    return HeadStudy(
        scores,
        evidence,
        evidence.labels(thresholds),
        thresholds,
        scrambled.lift,
        null.lift.nan_to_num(-torch.inf).amax((1, 2)),
    )


def _scores(
    model: HookedTransformer, texts: Sequence[TokenizedText], repeats: Sequence[TokenizedText], rules: Sequence[str]
) -> HeadScores:
    scores = score_heads(model, texts, rules=rules)
    return joined(scores, score_heads(model, repeats, rules=("induction",)), PROBE) if repeats else scores
