"""The shipped models as they lie in the repository: complete, pinned, evaluated, small."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from lens_utils.zoo import measures
from lens_utils.zoo.cards import read_card, sha256
from lens_utils.zoo.masked_measures import agreement_accuracy, negation_ratios
from lens_utils.zoo.prompts import agreement_prompts, name_recipient_prompts
from lens_utils.zoo.recipes import RECIPES
from lens_utils.zoo.shipped import load_shipped
from lens_utils.zoo.train import WEIGHTS


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda each: each.name)
def test_card_pins_the_files_and_the_recipe(recipe):
    folder = WEIGHTS / recipe.name
    card = read_card(folder)
    assert card["sha256"] == sha256(folder / "model.safetensors")
    assert card["bytes"] == (folder / "model.safetensors").stat().st_size
    assert card["recipe"] == json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert card["evaluation"]
    assert [each["step"] for each in card["checkpoints"]] == list(recipe.checkpoints)
    shapes = {name: weight.shape for name, weight in load_file(folder / "model.safetensors").items()}
    for each in card["checkpoints"]:
        assert sha256(folder / each["file"]) == each["sha256"]
        assert {name: weight.shape for name, weight in load_file(folder / each["file"]).items()} == shapes


def test_whole_zoo_is_under_20_megabytes():
    assert {path.name for path in WEIGHTS.iterdir()} == {recipe.name for recipe in RECIPES}
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 20e6


def test_attn_2l_has_its_circuit_and_the_early_checkpoints_do_not():
    folder = WEIGHTS / "zoo-attn-2l"
    model, _ = load_shipped(folder)
    tokens = measures.repeated_rows(model, n=4)
    late = measures.head_scores(model, tokens)
    assert float(late["previous"][0].max()) > 0.8
    assert float(late["induction"][1].max()) > 0.9
    for order, share in measures.recipient_accuracy(model, name_recipient_prompts(40, 5)).items():
        assert share >= 0.95, order
    first = load_file(folder / read_card(folder)["checkpoints"][0]["file"])
    model.load_state_dict({name: weight.float() for name, weight in first.items()})
    assert float(measures.head_scores(model, tokens)["induction"].max()) < 0.1


def test_attn_1l_has_no_induction():
    model, _ = load_shipped(WEIGHTS / "zoo-attn-1l")
    assert float(measures.head_scores(model, measures.repeated_rows(model, n=4))["induction"].max()) < 0.1


@pytest.mark.parametrize("name", ["zoo-bert-2l", "zoo-distilbert-3l"])
def test_masked_models_know_negation_and_agreement(name):
    network, tokenizer = load_shipped(WEIGHTS / name)
    assert min(negation_ratios(network, tokenizer, ("happy", "sad")).values()) > 5
    assert agreement_accuracy(network, tokenizer, agreement_prompts(60, 5)) > 0.9


def test_stories_1l_writes_corpus_words():
    network, tokenizer = load_shipped(WEIGHTS / "zoo-stories-1l")
    start = torch.tensor([[tokenizer.eos_token_id, *tokenizer("Once upon a time, there was a little")["input_ids"]]])
    out = network.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=4, do_sample=False)
    text = tokenizer.decode(out[0, 1:])
    assert text.startswith("Once upon a time, there was a little girl") or "little boy" in text
    assert "named" in text
