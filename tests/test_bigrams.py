"""Bigrams: counts by hand, fits in closed form, and the experiment end to end on toy models."""

import math
from collections import Counter

import pytest
import torch
from conftest import toy_model
from toy_text import reading_model

from experiments import bigrams
from lens_utils.circuits.bigrams import (
    BigramCounts,
    compare_bigrams,
    unigram_fit,
    weighted_kl,
)
from lens_utils.circuits.token_circuits import TokenCircuit, direct_path, log_probabilities
from lens_utils.hooked_transformer.processing import fold
from lens_utils.models import load_model
from lens_utils.tables import to_csv, to_markdown

ZERO = {"n_layers": 0, "attn_only": True, "d_mlp": None, "act_fn": None, "normalization_type": None}
TEXT = "Jack and Lily liked to watch the moon . The moon was big . Lily liked the moon ."


def reading(**changes):
    return fold(reading_model(positional_embedding_type="none", **(ZERO | changes)))


def run(model, **options):
    options = {"model": "toy", "words": ("moon", "Lily"), "mapped": 12, "top": 4} | options
    return bigrams.run(bigrams.Config(**options), model)


class TestCounts:
    def test_by_hand(self) -> None:
        found = BigramCounts.of([torch.tensor([1, 2, 1, 2, 3]), torch.tensor([2, 1]), torch.tensor([4])], 5)
        pairs = dict(
            zip(zip(found.previous.tolist(), found.following.tolist(), strict=True), found.counts.tolist(), strict=True)
        )
        assert pairs == {(1, 2): 2, (2, 1): 2, (2, 3): 1}
        assert found.frequency.tolist() == [0, 2, 3, 0, 0]
        assert found.follows.tolist() == [0, 2, 2, 1, 0]
        assert found.log_probabilities.exp().tolist() == pytest.approx([1, 2 / 3, 1 / 3])

    def test_chunks_add_up(self) -> None:
        generator = torch.Generator().manual_seed(0)
        texts = [torch.randint(50, (400_000,), generator=generator) for _ in range(6)]
        found = BigramCounts.of(texts, 50)
        expected = Counter()
        for text in texts:
            codes, counts = (text[:-1] * 50 + text[1:]).unique(return_counts=True)
            expected.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
        codes = (found.previous * 50 + found.following).tolist()
        assert dict(zip(codes, found.counts.tolist(), strict=True)) == expected

    def test_no_pair(self) -> None:
        with pytest.raises(ValueError, match="no bigram"):
            BigramCounts.of([torch.tensor([3])], 5)


class TestFit:
    def counted(self) -> BigramCounts:
        generator = torch.Generator().manual_seed(0)
        return BigramCounts.of([torch.randint(7, (30_000,), generator=generator)], 7)

    def test_the_counts_themselves_fit_exactly(self) -> None:
        counted = self.counted()
        table = torch.full((7, 7), -30.0)
        table[counted.previous, counted.following] = counted.log_probabilities.float()
        fit = compare_bigrams(log_probabilities(TokenCircuit(table, torch.eye(7))), counted)
        assert fit.kl.abs().max() < 1e-6
        assert fit.pearson == pytest.approx(1)
        assert fit.spearman == pytest.approx(1)
        assert fit.pairs == 49

    def test_a_uniform_prediction(self) -> None:
        counted = self.counted()
        fit = compare_bigrams(log_probabilities(TokenCircuit(torch.zeros(7, 1), torch.zeros(1, 7))), counted)
        shares = counted.log_probabilities.exp()[counted.previous == 3]
        assert fit.kl[3].item() == pytest.approx((shares * (shares.log() + math.log(7))).sum().item(), abs=1e-6)
        assert math.isnan(fit.pearson)

    def test_the_noise_is_what_counting_gives(self) -> None:
        """Independent uniform tokens: the unigram prediction is right up to its own counting."""
        fit = unigram_fit(self.counted())
        assert weighted_kl(fit, self.counted()) == pytest.approx(fit.noise.mean().item(), rel=0.5)

    def test_unseen_tokens_are_left_out(self) -> None:
        counted = BigramCounts.of([torch.tensor([0, 1, 0, 1])], 4)
        fit = unigram_fit(counted)
        assert fit.kl[2:].isnan().all()
        assert math.isfinite(weighted_kl(fit, counted))


@pytest.fixture(scope="module")
def model():
    return reading()


class TestExperiment:
    def test_words_by_softmax(self, model) -> None:
        tables = bigrams.tables(run(model))
        rows = tables["follows"].frame
        logits = model.W_E @ model.W_U + model.b_U
        moon = model.to_single_token("moon")
        expected = logits[moon].softmax(-1).topk(4)
        shown = rows[rows["word"] == "moon"]
        assert shown["probability"].tolist() == pytest.approx(expected.values.tolist(), rel=1e-4)
        assert shown["next"].tolist() == model.to_str_tokens(expected.indices)
        assert shown["logit"].tolist() == pytest.approx(logits[moon, expected.indices].tolist(), abs=1e-4)
        before = tables["precedes"].frame
        column = logits.softmax(-1)[:, moon].topk(4)
        assert before[before["word"] == "moon"]["previous"].tolist() == model.to_str_tokens(column.indices)

    def test_without_a_corpus_it_says_so(self, model) -> None:
        tables = bigrams.tables(run(model))
        assert next(iter(tables)) == "follows"
        assert "Not compared" in tables["follows"].caption
        assert tables["follows"].frame["counted"].isna().all()
        assert set(bigrams.figures(run(model))) == {"embedding_maps"}

    def test_with_a_corpus(self, model, tmp_path) -> None:
        (tmp_path / "a.txt").write_text(TEXT)
        found = run(model, corpus=str(tmp_path / "a.txt"))
        tables = bigrams.tables(found)
        assert next(iter(tables)) == "fit"
        assert tables["fit"].frame["prediction"].tolist()[0] == "direct path"
        assert (tables["fit"].frame["kl_low"] <= tables["fit"].frame["kl"]).all()
        rows = tables["precedes"].frame
        assert rows["count"].sum() >= 0
        assert all(to_csv(table) and to_markdown(table) for table in tables.values())
        assert len(bigrams.figures(found)) == 3
        kl = tables["tokens"].frame.set_index("token")
        assert kl.loc["moon", "count"] == 3
        assert kl.loc["moon", "followers"] == 2
        assert kl["contribution"].is_monotonic_decreasing

    def test_identities_hold_and_the_whole_model_is_the_table(self, model) -> None:
        found = run(model)
        assert {identity.name for identity in found.identities} == {"direct path", "whole model"}
        assert all(identity.holds for identity in found.identities)

    @pytest.mark.parametrize("changes", [{"n_layers": 2, "normalization_type": "LN"}, {"n_layers": 1}])
    def test_deeper_models_show_their_direct_path(self, changes) -> None:
        found = run(reading(**changes))
        assert all(identity.holds for identity in found.identities)
        assert "direct path" in bigrams.tables(found)["follows"].caption

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"words": ("unheardof",)}, "no single token"),
            ({"words": (" ",)}, "empty"),
            ({"corpus": "nowhere.txt"}, "not found"),
        ],
    )
    def test_bad_input_is_refused_before_anything_runs(self, model, options, message) -> None:
        with pytest.raises(ValueError, match=message):
            run(model, **options)

    def test_models_that_have_no_such_table(self) -> None:
        with pytest.raises(ValueError, match="post-norm"):
            run(reading_model(masked=True))
        with pytest.raises(ValueError, match="processing='folded'"):
            run(reading_model())
        with pytest.raises(ValueError, match="top=0"):
            bigrams.Config(top=0)
        with pytest.raises(ValueError, match="mapped=3"):
            bigrams.Config(mapped=3)


def test_the_shipped_zero_layer_model_is_the_bigram_table() -> None:
    model = load_model("zoo-attn-0l", processing="folded")
    found = bigrams.run(bigrams.Config(stories=2000), model)
    assert all(identity.holds for identity in found.identities)
    frame = bigrams.tables(found)["fit"].frame.set_index("prediction")
    assert frame.loc["direct path", "kl"] < 0.1
    assert frame.loc["direct path", "pearson"] > 0.9
    assert frame.loc["null: unigram frequencies", "kl"] > 1
    assert frame.loc["null: shuffled weights", "kl"] > 2


def test_direct_path_of_a_toy_with_mlp_is_readable() -> None:
    circuit = direct_path(fold(toy_model()))
    assert circuit.shape == (29, 29)
