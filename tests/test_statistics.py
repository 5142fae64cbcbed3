"""Intervals cover, nulls are calibrated, streaming equals exact within its stated error."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_utils import statistics as stats
from lens_utils.streaming import (
    LARGEST,
    RELATIVE_ERROR,
    SMALLEST,
    Extremes,
    Moments,
    QuantileSketch,
    bucket_of,
    bucket_values,
)

magnitudes = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False, width=32)
value_lists = st.lists(magnitudes, min_size=1, max_size=60)
quick = settings(max_examples=60, deadline=None)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sketch(values) -> QuantileSketch:
    rows = tensor(values).reshape(-1, 1)
    return QuantileSketch.of(rows, torch.zeros(rows.shape[0], dtype=torch.long), 1)


class TestBootstrap:
    @pytest.mark.parametrize("method", ["percentile", "bca"])
    def test_covers_the_true_mean_about_as_often_as_it_says(self, method):
        generator = torch.Generator().manual_seed(0)
        resamples = 400 if method == "percentile" else 200
        hits = sum(
            0.0
            in stats.bootstrap_interval(
                torch.randn(40, generator=generator), seed=i, method=method, n_resamples=resamples
            )
            for i in range(200)
        )
        assert 0.88 <= hits / 200 <= 0.99

    def test_same_seed_same_interval_and_estimate_is_the_statistic(self):
        values = torch.randn(50, generator=torch.Generator().manual_seed(1))
        one = stats.bootstrap_interval(values, seed=3, statistic=np.median)
        assert one == stats.bootstrap_interval(values, seed=3, statistic=np.median)
        assert one != stats.bootstrap_interval(values, seed=4, statistic=np.median)
        assert one.estimate == pytest.approx(np.median(values.numpy()))
        assert one.low < one.estimate < one.high

    def test_width_follows_the_standard_error(self):
        values = torch.randn(400, generator=torch.Generator().manual_seed(2))
        interval = stats.bootstrap_interval(values, seed=0)
        assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.15)

    def test_chunks_do_not_change_the_distribution(self, monkeypatch):
        values = torch.randn(100, generator=torch.Generator().manual_seed(2))
        whole = stats.bootstrap_interval(values, seed=0)
        monkeypatch.setattr(stats, "_RESAMPLED_VALUES_AT_ONCE", 1000)
        assert stats.bootstrap_interval(values, seed=0) == whole

    def test_equal_values_have_no_width(self):
        interval = stats.bootstrap_interval(torch.ones(5), seed=0, method="bca")
        assert (interval.low, interval.estimate, interval.high) == (1.0, 1.0, 1.0)

    def test_errors(self):
        with pytest.raises(ValueError, match="at least one"):
            stats.bootstrap_interval(torch.zeros(0), seed=0)
        with pytest.raises(ValueError, match="finite"):
            stats.bootstrap_interval(torch.tensor([1.0, float("nan")]), seed=0)
        with pytest.raises(ValueError, match="level"):
            stats.bootstrap_interval(torch.ones(3), seed=0, level=95.0)


class TestNulls:
    def test_p_value_counts_the_observed_itself(self):
        null = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0])
        assert stats.p_value(2.0, null) == pytest.approx(3 / 6)
        assert stats.p_value(2.0, null, "greater") == pytest.approx(2 / 6)
        assert stats.p_value(-2.5, null, "less") == pytest.approx(2 / 6)
        assert stats.p_value(9.0, null) == pytest.approx(1 / 6)

    def test_pooled_equals_one_by_one(self):
        generator = torch.Generator().manual_seed(0)
        observed = torch.randn(3, 4, generator=generator)
        null = torch.randn(50, generator=generator)
        pooled = stats.pooled_p_values(observed, [null[:20], null[20:]])
        expected = torch.tensor([[stats.p_value(float(x), null) for x in row] for row in observed])
        assert torch.allclose(pooled, expected.double())

    def test_label_permutation_is_calibrated_under_the_null_and_finds_a_shift(self):
        generator = torch.Generator().manual_seed(0)
        p = [
            stats.label_permutation_p_value(
                torch.randn(8, generator=generator), torch.randn(12, generator=generator), seed=i, n_shuffles=199
            )
            for i in range(200)
        ]
        assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
        assert 0.4 <= np.mean(p) <= 0.6
        far = stats.label_permutation_p_value(torch.randn(20) + 5, torch.randn(20), seed=0, n_shuffles=999)
        assert far == pytest.approx(1 / 1000)

    def test_sign_flips(self):
        assert stats.sign_flip_p_value(torch.ones(12), seed=0, n_shuffles=999) < 0.01
        assert stats.sign_flip_p_value(torch.tensor([1.0, -1.0, 2.0, -2.0]), seed=0) == pytest.approx(1.0)
        with pytest.raises(ValueError, match="at least one"):
            stats.sign_flip_p_value(torch.zeros(0), seed=0)

    @quick
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
    def test_benjamini_hochberg_is_scipys(self, p):
        expected = scipy.stats.false_discovery_control(p, method="bh")
        assert torch.allclose(stats.benjamini_hochberg(tensor(p)), tensor(expected))

    def test_benjamini_hochberg_skips_tests_not_done_and_refuses_no_probability(self):
        q = stats.benjamini_hochberg(tensor([[0.01, float("nan")], [0.04, 0.5]]))
        assert q[0, 1].isnan()
        assert torch.allclose(q[~q.isnan()], tensor(scipy.stats.false_discovery_control([0.01, 0.04, 0.5])))
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            stats.benjamini_hochberg(tensor([1.5]))

    @quick
    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
    def test_ranks_share_ties_as_scipys(self, values):
        assert stats.average_ranks(tensor([values, values]).T)[:, 1].tolist() == scipy.stats.rankdata(values).tolist()


def moments_close(one: Moments, other: Moments) -> None:
    assert torch.equal(one.count, other.count)
    assert torch.equal(one.negatives, other.negatives)
    assert torch.equal(one.low, other.low)
    assert torch.equal(one.high, other.high)
    for name, power in (("mean", 1), ("m2", 2), ("m3", 3), ("m4", 4)):
        spread = max(1e-300, float((one.high - one.low).abs().max()) + float(one.high.abs().max()))
        scale = float(one.count.sum()) * spread**power
        difference = (getattr(one, name) - getattr(other, name)).abs().max()
        assert float(difference) <= 1e-12 * scale, name


class TestMoments:
    def test_equal_numpy_and_scipy(self):
        values = torch.randn(5, 1000, generator=torch.Generator().manual_seed(0)).double() ** 3
        moments = Moments.of(values)
        array = values.numpy()
        assert np.allclose(moments.mean, array.mean(1))
        assert np.allclose(moments.sd, array.std(1, ddof=1))
        assert np.allclose(moments.skewness, scipy.stats.skew(array, axis=1))
        assert np.allclose(moments.excess_kurtosis, scipy.stats.kurtosis(array, axis=1))
        assert np.allclose(moments.negative_share, (array < 0).mean(1))
        assert np.allclose(moments.sum_of_squares, (array**2).sum(1))
        assert torch.equal(moments.low, values.amin(1))
        assert torch.equal(moments.high, values.amax(1))

    @quick
    @given(st.lists(value_lists, min_size=1, max_size=6), st.randoms(use_true_random=False))
    def test_any_merge_order_is_the_whole(self, parts, random):
        whole = Moments.of(tensor([x for part in parts for x in part]).unsqueeze(0))
        random.shuffle(parts)
        merged = Moments.empty(1)
        for part in parts:
            merged = merged.merge(Moments.of(tensor(part).unsqueeze(0)))
        moments_close(whole, merged)

    def test_pool_by_group(self):
        values = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
        groups = torch.tensor([0, 2, 2, 0, 2, 0, 2])
        pooled = Moments.of(values).pool(groups, 3)
        for group in (0, 2):
            direct = Moments.of(values[groups == group].flatten().unsqueeze(0))
            one = Moments(*(getattr(pooled, f)[group : group + 1] for f in pooled.__dataclass_fields__))
            moments_close(direct, one)
        assert pooled.count[1] == 0
        assert pooled.excess_kurtosis[1].isnan()
        moments_close(pooled.total(), Moments.of(values.flatten().unsqueeze(0)))

    def test_a_large_mean_does_not_cancel(self):
        values = torch.randn(20, 500, generator=torch.Generator().manual_seed(0)).double() * 0.01 + 1e4
        merged = Moments.of(values).total()
        assert float(merged.sd) == pytest.approx(float(values.numpy().std(ddof=1)), rel=1e-9)

    def test_errors_and_undefined_values(self):
        with pytest.raises(ValueError, match="empty"):
            Moments.of(torch.zeros(3, 0))
        with pytest.raises(ValueError, match="match"):
            Moments.empty(2).merge(Moments.empty(3))
        constant = Moments.of(torch.ones(1, 4))
        assert constant.excess_kurtosis.isnan().all()
        assert constant.skewness.isnan().all()


class TestQuantileSketch:
    @quick
    @given(value_lists, st.floats(0, 1))
    def test_within_the_stated_error_of_numpy(self, values, share):
        data = np.sort(np.array(values, dtype=np.float64))
        rank = share * (len(data) - 1)
        low, high = data[int(np.floor(rank))], data[int(np.ceil(rank))]
        part = rank - np.floor(rank)
        allowed = RELATIVE_ERROR * ((1 - part) * abs(low) + part * abs(high)) + 2 * SMALLEST
        exact = np.quantile(data, share)
        assert abs(float(sketch(values).quantile(share)) - exact) <= allowed * (1 + 1e-9) + 1e-12 * abs(exact)

    def test_relative_error_over_the_whole_range(self):
        values = torch.logspace(-8.9, 9, 5000, dtype=torch.float64)
        values = torch.cat([values, -values])
        error = ((bucket_values()[bucket_of(values)] - values) / values).abs().max()
        assert float(error) <= RELATIVE_ERROR * (1 + 1e-9)
        assert float(error) > 0.9 * RELATIVE_ERROR

    @quick
    @given(st.lists(value_lists, min_size=1, max_size=5), st.randoms(use_true_random=False))
    def test_any_merge_order_gives_the_same_bits(self, parts, random):
        whole = sketch([x for part in parts for x in part])
        random.shuffle(parts)
        merged = QuantileSketch.empty(1)
        for part in parts:
            merged = merged.merge(sketch(part))
        assert torch.equal(whole.counts, merged.counts)

    def test_groups_totals_and_empty_groups(self):
        values = torch.tensor([[1.0, 1.0], [5.0, 5.0], [1.0, 2.0]])
        grouped = QuantileSketch.of(values, torch.tensor([0, 2, 0]), 3)
        assert torch.allclose(grouped.quantile(0.0)[[0, 2]], tensor([1.0, 5.0]), rtol=0.01)
        assert grouped.quantile(0.5)[1].isnan()
        assert float(grouped.total().quantile(1.0)) == pytest.approx(5.0, rel=0.01)

    def test_histogram_keeps_every_value(self):
        values = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        edges = torch.linspace(-1, 1, 11, dtype=torch.float64)
        counts = QuantileSketch.of(values, torch.zeros(1000, dtype=torch.long), 1).histogram(edges)[0]
        expected = torch.histogram(values.double().clamp(-0.999, 0.999).flatten(), edges).hist
        assert int(counts.sum()) == 3000
        assert float((counts - expected).abs().max()) <= 0.02 * 3000

    def test_refuses_what_it_cannot_hold(self):
        with pytest.raises(ValueError, match="finite"):
            bucket_of(torch.tensor([float("nan"), 1.0]))
        with pytest.raises(ValueError, match="at most"):
            bucket_of(torch.tensor([10 * LARGEST], dtype=torch.float64))
        with pytest.raises(ValueError, match="share"):
            sketch([1.0]).quantile(50.0)


@quick
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30, unique=True), st.integers(1, 5), st.integers(1, 29))
def test_extremes_by_parts_are_the_whole(values, k, cut):
    rows = torch.tensor(values, dtype=torch.float32).unsqueeze(1)
    places = torch.stack([torch.arange(len(values))] * 3, dim=1)
    whole = Extremes.of(rows, places, k)
    parts = [Extremes.of(r, p, k) for r, p in ((rows[:cut], places[:cut]), (rows[cut:], places[cut:])) if len(r)]
    merged = parts[0]
    for part in parts[1:]:
        merged = part.merge(merged, k)
    assert torch.equal(merged.values, whole.values)
    assert torch.equal(merged.places, whole.places)
    assert whole.values[0].tolist() == sorted(values, reverse=True)[:k]
