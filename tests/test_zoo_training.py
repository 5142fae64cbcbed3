"""Recipes, training, cards and evaluation of the shipped models, on tiny runs."""

import dataclasses
import json
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from lens_utils.hooked_transformer import HookedTransformer, HookedTransformerConfig
from lens_utils.zoo import acceptance, measures
from lens_utils.zoo.cards import read_card, sha256
from lens_utils.zoo.corpus import causal_rows, sentences
from lens_utils.zoo.evaluation import evaluate
from lens_utils.zoo.induction_course import stage
from lens_utils.zoo.masked import masked_batch
from lens_utils.zoo.networks import new_network, sinusoids
from lens_utils.zoo.optimise import rate_factor
from lens_utils.zoo.recipes import RECIPES, recipe
from lens_utils.zoo.repeats import twice, varied_repeats
from lens_utils.zoo.shipped import load_shipped
from lens_utils.zoo.tokenizer import SPECIAL, build_tokenizer, vocabulary
from lens_utils.zoo.training import train


def tiny(name):
    """A shipped model's recipe on a corpus of 20 stories, in batches of 4 rows."""
    full = recipe(name)
    return dataclasses.replace(
        full,
        n_stories=20,
        polish_steps=min(full.polish_steps, 2),
        vocabulary_stories=20,
        batch_tokens=4 * full.shape.n_ctx,
        checkpoints=tuple(each for each in (0, 2) if full.checkpoints),
    )


@pytest.fixture(scope="module")
def tokens():
    return vocabulary(sample=60)


@pytest.fixture(scope="module")
def causal(tokens):
    return build_tokenizer(tokens, masked=False, n_ctx=128)


@pytest.fixture(scope="module")
def masked(tokens):
    return build_tokenizer(tokens, masked=True, n_ctx=64)


@pytest.fixture(scope="module", params=[each.name for each in RECIPES])
def trained(request, tmp_path_factory):
    """A model of each recipe after three steps, trained twice with one seed and once with another."""
    root = tmp_path_factory.mktemp(request.param)
    few = tiny(request.param)
    return [train(few, root / str(i), steps=3, seed=seed) for i, seed in enumerate((1, 1, 2))]


def test_same_seed_gives_the_same_bytes(trained):
    first, again, other = trained
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "card.json",
        "card.md",
    } <= set(names)
    for name in names:
        if not name.startswith("card"):
            assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    assert not [path for path in first.parent.iterdir() if path.name.startswith(".")]


def test_card_describes_the_files(trained):
    folder = trained[0]
    card = read_card(folder)
    assert card["sha256"] == sha256(folder / "model.safetensors")
    assert card["bytes"] == (folder / "model.safetensors").stat().st_size
    assert card["recipe"]["steps"] == 3
    assert card["recipe"]["seed"] == 1
    assert "random normal values" in card["warm_start"]
    text = (folder / "card.md").read_text()
    assert card["sha256"] in text
    assert card["name"] in text
    assert all(weight.dtype == torch.float16 for weight in load_file(folder / "model.safetensors").values())
    for each in card["checkpoints"]:
        assert sha256(folder / each["file"]) == each["sha256"]
    assert bool(card["checkpoints"]) == (card["name"] == "zoo-attn-2l")


def test_loading_gives_the_stored_weights_in_float32(trained):
    network, tokenizer = load_shipped(trained[0])
    stored = load_file(trained[0] / "model.safetensors")
    state = network.state_dict()
    assert all(torch.equal(state[name], weight.float()) for name, weight in stored.items())
    assert len(tokenizer) == read_card(trained[0])["d_vocab"]
    assert not network.training


def test_a_changed_file_is_refused(trained, tmp_path):
    (tmp_path / "card.json").write_bytes((trained[0] / "card.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((trained[0] / "model.safetensors").read_bytes()[:-2] + b"xx")
    with pytest.raises(ValueError, match=r"model.safetensors: sha256 is \w+, the card says"):
        load_shipped(tmp_path)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'zoo-bert'.*did you mean 'zoo-bert-2l'.*zoo-attn-0l"):
        recipe("zoo-bert")
    done = subprocess.run(
        [sys.executable, "-m", "lens_utils.zoo.train", "nothing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "zoo-stories-1l" in done.stderr


def test_evaluating_a_missing_model_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"card.json: no such model; train it"):
        evaluate(tmp_path / "zoo-attn-0l")


def test_an_interrupted_run_leaves_nothing_and_an_older_model_whole(tmp_path, monkeypatch):
    from lens_utils.zoo import training

    old = tmp_path / "zoo-attn-0l"
    old.mkdir()
    (old / "card.json").write_text("{}")
    monkeypatch.setattr(training, "save_network", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(tiny("zoo-attn-0l"), tmp_path, steps=1)
    assert [path.name for path in tmp_path.iterdir()] == ["zoo-attn-0l"]
    assert (old / "card.json").read_text() == "{}"


def test_training_lowers_the_loss(tmp_path):
    few = dataclasses.replace(tiny("zoo-attn-0l"), warm_up=5)
    card = read_card(train(few, tmp_path, steps=130))
    losses = list(card["losses"].values())
    assert losses[-1] < losses[0] - 0.5


def test_causal_rows_start_at_a_story(causal):
    rows = causal_rows(causal, 30, 0, n_ctx=128)
    assert rows.shape[1] == 128
    assert bool((rows[:, 0] == causal.eos_token_id).all())
    starts = causal.batch_decode(rows[:, 1:4])
    assert all(start[0].isupper() or start[0] in '"' for start in starts)


def test_masked_windows_are_whole_and_hide_a_fifth(masked):
    data = sentences(masked, 120, 0)
    generator = torch.Generator().manual_seed(0)
    hidden, text, widths, kept = 0, 0, set(), 0
    for _ in range(12):
        batch = masked_batch(data, masked, 2048, 64, generator)
        widths.add(batch.tokens.shape[1])
        assert bool((batch.tokens[:, 0] == masked.cls_token_id).all())
        ends = batch.attention_mask.sum(1) - 1
        assert bool((batch.tokens[torch.arange(len(ends)), ends] == masked.sep_token_id).all())
        assert bool((batch.targets >= len(SPECIAL)).all())
        shown = batch.tokens[batch.hidden]
        kept += int((shown == batch.targets).sum())
        hidden += len(shown)
        text += int(batch.attention_mask.sum()) - 2 * len(ends)
    assert widths == {24, 64}
    assert abs(hidden / text - 0.2) < 0.01
    assert abs(kept / hidden - 0.1) < 0.02


def test_repeats_follow_an_earlier_occurrence_where_they_count():
    words = torch.arange(6, 500)
    repeats = varied_repeats(words, 50, 64, 5, torch.Generator().manual_seed(0))
    periods = set()
    for tokens, weights in zip(repeats.tokens.tolist(), repeats.weights.tolist(), strict=True):
        assert tokens[0] == 5
        for at in range(2, 64):
            if weights[at] == 1.0 and weights[at - 1] == 1.0:
                earlier = [i for i in range(at - 1) if tokens[i] == tokens[at - 1] and tokens[i + 1] == tokens[at]]
                assert earlier
                periods.add(at - 1 - earlier[-1])
    assert len(periods) > 10
    tokens = twice(words, 3, 10, 5, torch.Generator().manual_seed(0))
    assert torch.equal(tokens[:, 1:11], tokens[:, 11:])
    assert tokens.shape == (3, 21)


def test_course_widens_and_recipients_join_late():
    stages = [stage(step, 1000, n_words=1400, n_ctx=128) for step in range(0, 1000, 10)]
    assert stages[0].n_words == 32
    assert stages[0].width == 48
    assert stages[0].recipients == 0
    assert stages[-1].n_words == 1400
    assert stages[-1].width == 128
    assert stages[-1].recipients > 0
    assert all(a.n_words <= b.n_words and a.width <= b.width for a, b in pairwise(stages))


def test_learning_rate_rises_holds_and_falls():
    few = dataclasses.replace(recipe("zoo-attn-0l"), warm_up=10, decay_from=0.5)
    factors = [rate_factor(step, 100, few) for step in range(100)]
    assert factors[0] == 0.1
    assert factors[9:50] == [1.0] * 41
    assert 0.05 < factors[-1] < 0.08
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_sinusoids_tell_positions_apart():
    table = sinusoids(64, 32)
    assert table.shape == (64, 32)
    assert torch.allclose(table.norm(dim=1), torch.full((64,), 4.0))
    overlap = table @ table.T - 100 * torch.eye(64)
    assert float(overlap.max()) < 15.9


def test_new_networks_start_from_sinusoids_and_the_generator(masked):
    few = tiny("zoo-bert-2l")
    first, again, other = (new_network(few, masked, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    weight = first.bert.embeddings.position_embeddings.weight
    assert torch.allclose(weight, few.position_amplitude * sinusoids(*weight.shape))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert first.cls.predictions.decoder.weight is first.bert.embeddings.word_embeddings.weight


def planted(tokenizer):
    """A model whose heads are uniform, so that its scores are known."""
    cfg = HookedTransformerConfig(
        n_layers=2, d_model=16, n_ctx=21, d_head=4, n_heads=2, d_vocab=len(tokenizer), attn_only=True, seed=0
    )
    model = HookedTransformer(cfg, tokenizer)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attn.W_Q)
    return model


def test_head_scores_of_uniform_heads_are_their_null(causal):
    model = planted(causal)
    scores = measures.head_scores(model, measures.repeated_rows(model, n=3))
    previous = sum(1 / (query + 1) for query in range(1, 21)) / 20
    induction = sum(1 / (query + 1) for query in range(11, 21)) / 10
    assert torch.allclose(scores["previous"], torch.full((2, 2), previous), atol=1e-5)
    assert torch.allclose(scores["induction"], torch.full((2, 2), induction), atol=1e-5)


def test_bigram_divergence_is_zero_for_the_counts_themselves():
    rows = torch.randint(0, 7, (50, 30), generator=torch.Generator().manual_seed(0))
    counts = measures.bigram_counts(rows, 7)
    assert int(counts.sum()) == 50 * 29
    assert int(counts[rows[0, 0], rows[0, 1]]) >= 1
    assert abs(measures.bigram_divergence(counts.log(), counts, counts.sum(1))) < 1e-6
    assert measures.bigram_divergence(torch.zeros(7, 7), counts, counts.sum(1)) > 0.001


def test_verdicts():
    assert acceptance.below("x", 0.1, 0.09).verdict == "pass"
    assert acceptance.below("x", 0.1, 0.1).verdict == "FAIL"
    assert acceptance.above("x", 0.9, 0.9).verdict == "pass"
    assert acceptance.above("x", 0.9, float("nan")).verdict == "FAIL"


def test_evaluation_writes_the_card(tmp_path, monkeypatch):
    monkeypatch.setattr(acceptance, "_HELDOUT_STORIES", 20)
    folder = train(tiny("zoo-attn-1l"), tmp_path, steps=1)
    lines = evaluate(folder)
    card = read_card(folder)
    assert [line["criterion"] for line in card["evaluation"]] == [line.criterion for line in lines]
    assert any("induction" in line.criterion and line.verdict == "pass" for line in lines)
    assert "induction" in (folder / "card.md").read_text()
    assert json.loads((folder / "card.json").read_text())["sha256"] == card["sha256"]
