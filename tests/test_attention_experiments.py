"""The experiments on heads and attention on toy models: options, tables, pages, errors."""

import pytest
import torch
from toy_text import reading_model

from experiments import attention_patterns, head_classification
from lens_utils.attention_views import DEFINITIONS
from lens_utils.pages import Page
from lens_utils.published import TINYSTORIES_1L_21M, TINYSTORIES_HEADS
from lens_utils.tables import to_csv, to_markdown

PROMPTS = ("Tom was not happy . He was sad", "Lucy asks Tom : I am looking")


def classified(model=None, **options):
    options = {"model": "toy", "prompts": PROMPTS, "repeats": 4} | options
    return head_classification.run(head_classification.Config(**options), model or reading_model(n_layers=2))


def shown(model=None, **options):
    options = {"model": "toy", "prompts": PROMPTS} | options
    return attention_patterns.run(attention_patterns.Config(**options), model or reading_model(n_layers=2))


@pytest.mark.parametrize("masked", [False, True])
def test_classification_has_a_row_for_every_head(masked: bool) -> None:
    findings = classified(reading_model(masked=masked, n_layers=2))
    assert all(identity.holds for identity in findings.identities)
    tables = head_classification.tables(findings)
    heads = tables["heads"].frame
    assert list(tables) == ["heads", "rules", "all_scores"]
    assert len(heads) == findings.study.labels[0].numel()
    assert (heads["lift_low"] <= heads["lift"] + 1e-6).all()
    assert all(to_csv(table) and to_markdown(table) for table in tables.values())
    page = head_classification.figures(findings)["attention"]
    assert isinstance(page, Page)
    assert page.fragments[1].props["causal"] is not masked


def test_rules_without_rows_say_so() -> None:
    rules = head_classification.tables(classified())["rules"].frame.set_index("rule")
    assert rules.loc["opening quote", "rows"] == "no rows"
    assert rules.loc["previous", "rows"] != "no rows"
    scores = head_classification.tables(classified())["all_scores"].frame
    assert "opening quote" not in set(scores["rule"])


def test_two_random_heads_get_no_label_from_two_prompts() -> None:
    heads = head_classification.tables(classified())["heads"].frame
    assert set(heads["labels"]) == {"none"}
    assert set(heads["description"]) == {"No rule describes it"}


def test_only_the_rules_asked_for() -> None:
    study = classified(rules=("first", "offset-4"), repeats=0).study
    assert study.scores.rules == ("first", "offset-4")


def test_default_texts_are_the_dialogue_and_stories() -> None:
    findings = classified(prompts=(), stories=3)
    assert findings.texts[0].text.startswith("One day, Lucy asks Tom")
    assert len(findings.texts) >= 4


def test_published_descriptions_stand_beside_ours() -> None:
    model = reading_model(n_heads=16, d_head=4)
    model.provenance = type("Provenance", (), {"location": TINYSTORIES_1L_21M})()
    table = head_classification.tables(classified(model))["published"].frame
    assert list(table["published"]) == list(TINYSTORIES_HEADS)
    assert len(table) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ("speeker",)}, "'speeker' is unknown; did you mean 'speaker'"),
        ({"prompts": ("Tom " * 90,)}, "shorten it by"),
        ({"prompts": ("Tom", "he"), "prepend_bos": False}, "has one token"),
        ({"corpus": "x.txt"}, "give one of them"),
        ({"stories": -1}, "must be 0 or more"),
    ],
)
def test_classification_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classified(**options)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_every_prompt_and_head(masked: bool) -> None:
    findings = shown(reading_model(masked=masked, n_layers=2))
    assert all(identity.holds for identity in findings.identities)
    tables = attention_patterns.tables(findings)
    n_heads = findings.read[0].weighted.pattern[:, :, 0, 0].numel()
    assert len(tables["heads"].frame) == 2 * n_heads
    assert set(tables["tokens"].frame["prompt"]) == {0, 1}
    made = attention_patterns.figures(findings)
    assert {*DEFINITIONS, "tokens", "raw_and_weighted_l1"} <= set(made)
    grids = [fragment for fragment in made["norm_weighted"].fragments if hasattr(fragment, "props")]
    assert [len(grid.props["names"]) for grid in grids] == [n_heads] * 2
    assert {grid.props["causal"] for grid in grids} == {not masked}


def test_head_numbers_follow_the_pattern() -> None:
    findings = shown(prompts=PROMPTS[:1])
    row = attention_patterns.tables(findings)["heads"].frame.iloc[1]
    pattern = findings.read[0].weighted.pattern[0, 1]
    assert row["first"] == pytest.approx(pattern[1:, 0].mean().item(), abs=1e-5)
    assert row["itself"] == pytest.approx(pattern.diagonal().mean().item(), abs=1e-5)
    assert row["entropy"] == pytest.approx(torch.special.entr(pattern).sum(-1).mean().item(), abs=1e-5)


def test_attention_refuses() -> None:
    with pytest.raises(ValueError, match="has one token"):
        shown(prompts=("Tom",), prepend_bos=False)
    with pytest.raises(ValueError, match="top=0"):
        attention_patterns.Config(top=0)
