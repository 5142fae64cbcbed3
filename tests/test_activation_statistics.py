"""Distributions equal numpy's, streaming equals exact within its stated error, planted truths are found."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_text import reading_model

from lens_utils import hook_names
from lens_utils.activation_statistics import MAX_POSITIONS, ActivationStatistics
from lens_utils.activations import cache_hooks, stream_activations
from lens_utils.distributions import adjusted, compare_texts, describe, participation_ratio
from lens_utils.mlp.identities import mlp_identities
from lens_utils.mlp.study import stream_study
from lens_utils.mlp.uncertainty import intervals, null_distributions
from lens_utils.null_models import shuffled_weights
from lens_utils.prompts import CONTRAST_PROMPTS, MOON_PROMPT, tokenize_prompts
from lens_utils.published import TINYSTORIES_MOON, Verdict, moon_verdicts
from lens_utils.quantities import TokenRows, chosen_quantities, standard_quantities
from lens_utils.streaming import RELATIVE_ERROR
from lens_utils.word_classes import WORD_CLASSES

TEXTS = (MOON_PROMPT, *CONTRAST_PROMPTS)


def random_values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) ** 3


def rows_of(lengths: list[int], classes: list[int] | None = None) -> TokenRows:
    places = [(text, pos) for text, length in enumerate(lengths) for pos in range(length)]
    return TokenRows(torch.tensor(places), torch.tensor(classes or [0] * len(places)))


@pytest.fixture(scope="module")
def model():
    return reading_model()


@pytest.fixture(scope="module")
def texts(model):
    return tokenize_prompts(model, TEXTS)


class TestDistribution:
    def test_is_numpys_and_scipys(self):
        values = random_values(40, 25)
        found, array = describe(values), values.double().numpy()
        assert found.values == array.size
        assert found.mean == pytest.approx(array.mean())
        assert found.sd == pytest.approx(array.std(ddof=1))
        assert [found.minimum, found.q1, found.median, found.q3, found.maximum] == pytest.approx(
            np.quantile(array, [0, 0.25, 0.5, 0.75, 1]).tolist()
        )
        assert found.excess_kurtosis == pytest.approx(scipy.stats.kurtosis(array, axis=None))
        assert found.skewness == pytest.approx(scipy.stats.skew(array, axis=None))
        assert found.negative_share == pytest.approx((array < 0).mean())

    def test_participation_ratio_counts_coordinates(self):
        values = torch.tensor([[3.0, 0, 0, 0], [1, -1, 1, 1], [2, 2, 0, 0], [0, 0, 0, 0]])
        assert participation_ratio(values)[:3].tolist() == pytest.approx([1, 4, 2])
        assert participation_ratio(values)[3].isnan()
        assert describe(values).participation_ratio == pytest.approx(7 / 3)

    def test_equal_values_have_undefined_shape_only(self):
        found = describe(torch.ones(2, 3))
        assert (found.mean, found.sd, found.median) == (1.0, 0.0, 1.0)
        assert math.isnan(found.excess_kurtosis)


class TestStreaming:
    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.randoms(use_true_random=False))
    def test_batches_in_any_order_are_the_exact_whole(self, lengths, random):
        values = [random_values(length, 7, seed=i) for i, length in enumerate(lengths)]
        rows = rows_of(lengths)
        parts = [(each, rows.places[rows.places[:, 0] == i]) for i, each in enumerate(values)]
        random.shuffle(parts)
        sketched, kept = ActivationStatistics(exact_limit=1), ActivationStatistics(exact_limit=10_000)
        for each, places in parts:
            for statistics in (sketched, kept):
                statistics.add(each, TokenRows(places, torch.zeros(len(places), dtype=torch.long)))
        exact = describe(torch.cat(values))
        assert kept.is_exact
        assert asdict(kept.overall()) == pytest.approx(asdict(exact), rel=1e-9, abs=1e-12)
        assert not sketched.is_exact
        found = asdict(sketched.overall())
        for name, number in asdict(exact).items():
            # neighbouring values may straddle a quartile: the bound is on their magnitudes, here at most the extremes'
            slack = (
                RELATIVE_ERROR * max(abs(exact.minimum), abs(exact.maximum)) if name in ("q1", "median", "q3") else 0
            )
            assert found[name] == pytest.approx(number, rel=1e-9, abs=slack + 1e-9), name
        moment_error, sketch_error = kept.streaming_errors()
        assert moment_error < 1e-12
        assert sketch_error <= RELATIVE_ERROR * (1 + 1e-9)

    def test_many_values_have_quartiles_within_one_percent(self):
        statistics = ActivationStatistics(exact_limit=1)
        values = random_values(3000, 20)
        for part in values.split(100):
            statistics.add(part, rows_of([100]))
        exact = describe(values)
        for name in ("q1", "q3"):
            assert getattr(statistics.overall(), name) == pytest.approx(getattr(exact, name), rel=1.01 * RELATIVE_ERROR)

    def test_memory_does_not_grow_past_the_limit(self):
        statistics = ActivationStatistics(exact_limit=500)
        statistics.add(random_values(10, 40), rows_of([10]))
        assert statistics.is_exact
        statistics.add(random_values(10, 40), rows_of([10]))
        assert not statistics.is_exact
        assert statistics._kept is None
        assert statistics.streaming_errors() is None

    def test_by_position_and_by_class_are_the_groups(self):
        values, lengths = random_values(9, 4), [4, 5]
        classes = [1, 1, 2, 2, 2, 1, 1, 2, 2]
        statistics = ActivationStatistics(exact_limit=1000)
        statistics.add(values, rows_of(lengths, classes))
        positions = [0, 1, 2, 3, 0, 1, 2, 3, 4]
        for found, groups, name in (
            (statistics.by_position(), positions, lambda group: group),
            (statistics.by_class(), classes, lambda group: WORD_CLASSES[group]),
        ):
            assert set(found) == {name(group) for group in groups}
            for group in set(groups):
                expected = describe(values[torch.tensor(groups) == group])
                assert asdict(found[name(group)]) == pytest.approx(asdict(expected), rel=1e-9, abs=1e-12)

    def test_late_positions_share_a_row(self):
        statistics = ActivationStatistics(exact_limit=1)
        statistics.add(random_values(MAX_POSITIONS + 20, 3), rows_of([MAX_POSITIONS + 20]))
        found = statistics.by_position()
        assert max(found) == MAX_POSITIONS
        assert found[MAX_POSITIONS].values == 60

    def test_a_planted_extreme_at_the_first_token_is_seen(self):
        values = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        values[[0, 20, 40], 3] = 50.0
        values[[0], 3] = 60.0
        values[45, 2] = -55.0
        statistics = ActivationStatistics(exact_limit=1)
        statistics.add(values, rows_of([20, 20, 20]))
        first = statistics.first_position()
        assert (first.texts, first.texts_with_extreme_at_first) == (3, 2)
        assert (first.text, first.pos, first.coordinate, first.largest_magnitude) == (0, 0, 3, 60.0)
        squares = values.double().square()
        assert first.share_of_squares == pytest.approx(float(squares[[0, 20, 40]].sum() / squares.sum()))
        assert first.share_of_tokens == pytest.approx(1 / 20)
        assert first.excess_kurtosis == pytest.approx(float(scipy.stats.kurtosis(values.double(), axis=None)))
        later = np.delete(values.double().numpy(), [0, 20, 40], axis=0)
        assert first.excess_kurtosis_without_first == pytest.approx(float(scipy.stats.kurtosis(later, axis=None)))


class TestQuantities:
    def test_every_layer_and_the_final_norm_before_and_after(self, model, texts):
        quantities, notes = standard_quantities(model)
        assert not notes
        assert [quantity.layer for quantity in quantities] == [0] * 4 + [1] * 4 + [2] * 2
        before, after = quantities[-2:]
        assert after.label == f"{hook_names.LN_FINAL_NORMALIZED} * w + b"
        batch = cache_hooks(model, texts[:1], [before.hook])
        logits = model(texts[0].tokens.unsqueeze(0))[0]
        assert torch.allclose(after.of(batch) @ model.W_U + model.b_U, logits, atol=1e-4)
        assert not torch.allclose(before.of(batch), after.of(batch), atol=1e-2)

    def test_post_norm_models_say_what_stands_in(self):
        masked = reading_model(masked=True)
        quantities, notes = standard_quantities(masked)
        assert "stands in" in notes[0]
        texts = tokenize_prompts(masked, [MOON_PROMPT])
        leaving = hook_names.normalized_resid_post(1)
        batch = cache_hooks(masked, texts, [quantities[-1].hook, leaving])
        assert torch.allclose(quantities[-1].of(batch), batch.real(leaving), atol=1e-5)

    def test_models_without_gain_or_norm_say_so(self):
        assert "LNPre" in standard_quantities(reading_model(normalization_type="LNPre"))[1][0]
        quantities, notes = standard_quantities(reading_model(normalization_type=None))
        assert "no LayerNorm" in notes[0]
        assert len(quantities) == 8

    def test_errors(self, model):
        with pytest.raises(ValueError, match="no MLP"):
            standard_quantities(reading_model(attn_only=True, d_mlp=None, act_fn=None))
        with pytest.raises(ValueError, match=r"nearest: .*blocks\.0\.hook_mlp_out"):
            chosen_quantities(model, ["blocks.0.hook_mlp_ot"])
        with pytest.raises(ValueError, match="no axes"):
            chosen_quantities(model, [hook_names.pattern(0)])

    def test_chosen_hooks_replace_the_standard_ones(self, model):
        chosen, _ = chosen_quantities(model, [hook_names.z(1), hook_names.LN_FINAL_NORMALIZED, hook_names.EMBED])
        assert [quantity.layer for quantity in chosen] == [1, 2, 2, 0]


class TestComparison:
    def test_the_same_text_does_not_differ_and_a_shifted_one_does(self):
        values = random_values(30, 10)
        same, shifted = compare_texts([values, values.clone(), values + 2], seed=0)[1:]
        assert (same.mean_difference, same.p) == (0.0, 1.0)
        assert shifted.mean_difference == pytest.approx(2, rel=1e-5)
        assert shifted.p < 0.01
        rows = compare_texts([values, values + 2], seed=0)
        assert math.isnan(rows[0].p)
        assert adjusted(rows)[1] == pytest.approx(rows[1].p)

    def test_calibrated_when_texts_come_from_one_source(self):
        p = [
            compare_texts(
                [random_values(12, 6, seed=2 * i), random_values(9, 6, seed=2 * i + 1)], seed=i, n_shuffles=199
            )[1].p
            for i in range(100)
        ]
        assert np.mean(np.array(p) <= 0.05) <= 0.12


class TestStudy:
    def test_the_sample_is_everything_when_it_fits_and_bounded_otherwise(self, model, texts):
        quantities, _ = standard_quantities(model)
        whole = stream_study(model, texts, quantities, exact_limit=10**6, n_sample=4, seed=0)
        assert whole.sample == texts
        assert (whole.n_texts, whole.n_tokens) == (4, sum(map(len, texts)))
        part = stream_study(model, texts * 5, quantities, exact_limit=10**6, n_sample=3, seed=0)
        assert len(part.sample) == 3
        assert part.n_texts == 20

    def test_statistics_do_not_depend_on_batches(self, model, texts):
        hook = hook_names.mlp_out(0)
        exact = describe(cache_hooks(model, texts, [hook]).real(hook))
        statistics = ActivationStatistics(exact_limit=10**6)
        for batch in stream_activations(model, texts, [hook], max_tokens=30):
            statistics.add(batch.real(hook), TokenRows.of(batch))
        assert asdict(statistics.overall()) == pytest.approx(asdict(exact), rel=1e-4)

    def test_intervals_hold_the_estimate_and_agree_with_scipy(self, model, texts):
        values = random_values(len(texts[0]), 30)
        found = intervals(values, texts[:1], seed=0)
        assert found["mean"].estimate == pytest.approx(float(values.double().mean()))
        assert found["excess_kurtosis"].estimate == pytest.approx(
            float(scipy.stats.kurtosis(values.double(), axis=None))
        )
        for interval in found.values():
            assert interval.low < interval.estimate < interval.high

    def test_the_null_model_has_the_same_weights_in_another_order(self, model, texts):
        null = shuffled_weights(model, seed=0)
        for name, weight in model.state_dict().items():
            other = null.state_dict()[name]
            assert torch.equal(weight.flatten().sort().values, other.flatten().sort().values)
        assert not torch.equal(model.W_in, null.W_in)
        quantities, _ = standard_quantities(model)
        assert set(null_distributions(model, texts, quantities, seed=0)) == {each.label for each in quantities}


class TestIdentities:
    @pytest.mark.parametrize(
        "changes", [{}, {"masked": True}, {"normalization_type": None}, {"normalization_type": "LNPre"}]
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_hold_on_every_architecture(self, changes, dtype):
        model = reading_model(dtype=dtype, **changes)
        found = mlp_identities(model, tokenize_prompts(model, TEXTS))
        assert len(found) >= 4
        assert all(identity.holds for identity in found), found
        if dtype == torch.float64:
            assert all(identity.tolerance < 1e-11 for identity in found)

    def test_fail_when_the_activations_are_not_the_models(self, texts):
        model = reading_model()
        neuron_bias = model.blocks[1].mlp.b_out

        def break_it(value, hook):
            return value + 0.001

        with model.hooks(fwd_hooks=[(hook_names.mlp_out(1), break_it)]):
            found = {identity.name: identity for identity in mlp_identities(model, texts)}
        assert neuron_bias is model.blocks[1].mlp.b_out
        assert not found["neurons add"].holds
        assert "layer 1" in found["neurons add"].statement
        assert found["attention adds"].holds


class TestPublished:
    def test_only_the_model_they_are_about(self, model):
        assert moon_verdicts(model) == ()

    def test_both_settings_of_the_first_token(self):
        model = reading_model(n_layers=1)

        class Provenance:
            location = "roneneldan/TinyStories-1Layer-21M"

        model.provenance = Provenance()
        found = moon_verdicts(model)
        assert len(found) == 2 * 3 * 7
        assert {row.special_tokens for row in found} == {True, False}
        assert not all(row.passes for row in found)
        assert {row.label for row in found} == set(TINYSTORIES_MOON)

    def test_the_printed_precision_decides(self):
        assert Verdict("x", True, "mean", 0.0035, 0.003549).passes
        assert not Verdict("x", True, "mean", 0.0035, 0.00356).passes
