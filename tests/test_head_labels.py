"""Head labels: right on planted heads the thresholds have not seen, absent where there is nothing to find."""

import math
from dataclasses import replace

import pytest
import torch

from lens_utils import load_model
from lens_utils.head_labels import FLOOR, THRESHOLDS, describe
from lens_utils.head_trials import (
    CLEAN,
    STATED,
    Trial,
    calibrated,
    confusion,
    null_trial,
    performance,
    planted_trial,
    score_error,
    unlabelled_share,
)
from lens_utils.prompts import tokenize_corpus
from lens_utils.target_rules import RULES
from lens_utils.zoo.stories import stories

NUMBERS = ("lift", "low", "high", "score_bounds", "p", "q", "explained")


@pytest.fixture(scope="module", params=[False, True], ids=["causal", "bidirectional"])
def clean(request: pytest.FixtureRequest) -> Trial:
    return planted_trial(64, seed=41, bidirectional=request.param)


def test_clean_heads_get_their_label_and_no_other(clean: Trial) -> None:
    for each in performance([clean], THRESHOLDS):
        assert each.wrong == 0, each
        assert each.planted == each.right, each
    assert score_error([clean]) < 1e-5


def test_noisy_heads_get_their_label() -> None:
    noisy = planted_trial(64, seed=42, bidirectional=False, ratio=STATED)
    results = performance([noisy], THRESHOLDS)
    assert sum(each.right for each in results) / sum(each.planted for each in results) >= 0.95
    assert sum(each.wrong for each in results) <= 1


def test_distractors_get_none(clean: Trial) -> None:
    counts = confusion([clean], THRESHOLDS)
    assert sum(counts[""].values()) == counts[""][""] > 5
    assert counts["previous"] == {rule: 2 * (rule == "previous") for rule in (*RULES, "")}


@pytest.mark.parametrize("name", ["zoo-attn-1l", "zoo-distilbert-3l"])
def test_shuffled_models_get_none(name: str) -> None:
    model = load_model(name)
    texts = tuple(tokenize_corpus(model, stories(12, 5, split="heldout")))
    trials = [null_trial(model, texts, seed=seed) for seed in range(3)]
    assert unlabelled_share(trials, THRESHOLDS) >= 0.99


def test_thresholds_cover_the_rules_and_keep_the_floor() -> None:
    assert set(THRESHOLDS) == set(RULES)
    assert all(FLOOR <= least < 1 for least in THRESHOLDS.values())


def test_calibration_stands_above_the_strongest_other_head(clean: Trial) -> None:
    thresholds = calibrated([clean])
    wrong = clean.evidence.admissible & torch.stack([~clean.is_kind(rule) for rule in clean.evidence.rules])
    for index, rule in enumerate(clean.evidence.rules):
        others = clean.evidence.low[index][wrong[index]]
        assert not len(others) or thresholds[rule] > others.max()


def test_performance_counts() -> None:
    """Two heads; only the first is a previous-token head, and a low bar lets the second have that label too."""
    kinds = (("previous", ""),)
    trial = planted_trial(48, seed=1, bidirectional=False)
    evidence = trial.evidence
    both = [trial.kinds[0].index("previous"), trial.kinds[1].index("previous")]
    cut = {
        name: torch.stack([getattr(evidence, name)[..., layer, head] for layer, head in enumerate(both)], -1)[
            ..., None, :
        ]
        for name in ("lift", "low", "high", "score_bounds", "p", "q", "explained")
    }

    (result,) = [
        each for each in performance([Trial(kinds, replace(evidence, **cut))], THRESHOLDS) if each.rule == "previous"
    ]
    assert (result.planted, result.right, result.wrong) == (1, 1, 1)
    assert (result.precision, result.recall, result.auc) == (0.5, 1.0, 0.5)
    assert result.f1 == pytest.approx(2 / 3)
    assert math.isinf(CLEAN)


def test_descriptions() -> None:
    assert describe(()) == "No rule describes it"
    assert describe(("previous", "opening quote")) == (
        "Attends to the previous token; from inside speech, and from a closing speech mark, to the opening one"
    )
