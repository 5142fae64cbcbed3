"""Planted neurons and heads are found, random ones are not; ablation knows which neurons matter."""

import numpy as np
import pytest
import scipy.stats
import torch
from toy_text import reading_model

from lens_utils import hook_names
from lens_utils.ablation import ablated_losses, ablated_text_losses, ablation_curve, loss_input, mean_ablation
from lens_utils.activations import cache_hooks
from lens_utils.neurons import (
    TokenExtremes,
    class_reactions,
    correlate_within_texts,
    head_features,
    rank_biserial,
    strongest,
)
from lens_utils.projections import MIN_POINTS, principal_components, token_maps, tsne
from lens_utils.prompts import CONTRAST_PROMPTS, MOON_PROMPT, tokenize_prompts
from lens_utils.statistics import average_ranks


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestClassReactions:
    classes = ["name"] * 12 + ["verb"] * 12 + ["word"] * 16 + ["number"] * 2

    def test_a_planted_neuron_is_found_and_no_other(self):
        values = noise(42, 50)
        values[:12, 7] += 4
        values[12:24, 9] -= 4
        found = class_reactions(values, self.classes, seed=0)
        assert found.classes == ("name", "verb", "word")
        assert found.tokens == (12, 12, 16)
        significant = {(found.classes[row], column) for row, column in (found.q <= 0.05).nonzero().tolist()}
        assert {("name", 7), ("verb", 9)} <= significant
        assert all(column in (7, 9) for _, column in significant)
        assert found.effect[0, 7] > 0.9
        assert found.effect[1, 9] < -0.9
        assert found.cohens_d[0, 7] > 2

    def test_calibrated_on_random_neurons(self):
        found = class_reactions(noise(42, 300, seed=3), self.classes, seed=1)
        assert 0.03 <= float((found.p <= 0.05).double().mean()) <= 0.07
        assert not (found.q <= 0.05).any()

    def test_effect_and_p_are_mann_whitneys(self):
        values = noise(42, 4).double()
        inside = torch.tensor([[name == "name" for name in self.classes]])
        effect = rank_biserial(average_ranks(values), inside)[0]
        found = class_reactions(values, self.classes, seed=0, n_shuffles=4000)
        for column in range(4):
            test = scipy.stats.mannwhitneyu(values[:12, column], values[12:, column])
            assert float(effect[column]) == pytest.approx(2 * test.statistic / (12 * 30) - 1)
            assert float(found.p[0, column]) == pytest.approx(test.pvalue, abs=0.02)

    def test_nothing_to_test(self):
        found = class_reactions(noise(4, 5), ["name", "name", "verb", "verb"], seed=0)
        assert found.classes == ()
        assert found.effect.shape == (0, 5)


class TestHeadCorrelations:
    def test_features_of_a_pattern(self):
        pattern = torch.tensor([[[1.0, 0, 0], [0.25, 0.75, 0], [0.2, 0.3, 0.5]]])
        features = head_features(pattern)
        assert features.shape == (2, 1, 4)
        assert features[1, 0, :3].tolist() == pytest.approx([0.2, 0.3, 0.5])
        assert float(features[1, 0, 3]) == pytest.approx(scipy.stats.entropy([0.2, 0.3, 0.5]))

    def test_a_planted_pair_is_found_and_no_other(self):
        heads = [noise(30, 6, seed=i).double() for i in range(3)]
        neurons = [noise(30, 40, seed=10 + i).double() for i in range(3)]
        for head, neuron in zip(heads, neurons, strict=True):
            neuron[:, 11] = torch.exp(2 * head[:, 4] + 0.2 * neuron[:, 11])
        found = correlate_within_texts(heads, neurons, seed=0)
        assert (found.q <= 0.05).nonzero().tolist() == [[4, 11]]
        assert found.r[4, 11] > 0.9
        assert found.tokens == 90

    def test_is_spearman_on_one_text(self):
        one, other = noise(25, 2).double(), noise(25, 3, seed=1).double()
        found = correlate_within_texts([one], [other], seed=0)
        expected = scipy.stats.spearmanr(one[:, 1], other[:, 2]).statistic
        assert float(found.r[1, 2]) == pytest.approx(expected)

    def test_calibrated_and_differences_between_texts_do_not_count(self):
        heads = [noise(15, 8, seed=i).double() + 10 * i for i in range(4)]
        neurons = [noise(15, 60, seed=20 + i).double() + 10 * i for i in range(4)]
        found = correlate_within_texts(heads, neurons, seed=0)
        assert 0.02 <= float((found.p <= 0.05).double().mean()) <= 0.09
        assert not (found.q <= 0.05).any()

    def test_a_common_trend_with_position_is_taken_out(self):
        trend = torch.arange(60.0, dtype=torch.float64).unsqueeze(1)
        one, other = trend + 10 * noise(60, 1).double(), trend + 10 * noise(60, 1, seed=1).double()
        found = correlate_within_texts([one], [other], seed=0)
        assert found.r[0, 0] > 0.6
        assert abs(float(found.without_position[0, 0])) < 0.35

    def test_constant_series_and_short_texts_are_no_tests(self):
        heads, neurons = noise(20, 2).double(), noise(20, 3, seed=1).double()
        heads[:, 1] = 1.0
        found = correlate_within_texts([heads, heads[:3]], [neurons, neurons[:3]], seed=0)
        assert found.r[1].isnan().all()
        assert found.q[1].isnan().all()
        assert found.tokens == 20
        nothing = correlate_within_texts([heads[:3]], [neurons[:3]], seed=0)
        assert nothing.tokens == 0
        assert nothing.r.isnan().all()


class TestExtremes:
    def test_tokens_contexts_and_forgotten_texts(self):
        model = reading_model()
        texts = tokenize_prompts(model, [MOON_PROMPT, *CONTRAST_PROMPTS])
        extremes = TokenExtremes(2)
        for text in texts:
            values = torch.arange(len(text)).float().unsqueeze(1) + (100 if text.index == 2 else 0)
            places = torch.tensor([(text.index, pos, 0) for pos in range(len(text))])
            extremes.add(torch.cat([values, -values], dim=1), places, [text])
        top = extremes.highest(0)
        assert (top[0].text, top[0].pos) == (2, len(texts[2]) - 1)
        assert top[0].token == texts[2].strings[-1]
        assert f"«{top[0].token}»" in top[0].context
        assert extremes.lowest(1)[0].value == -top[0].value
        assert set(extremes._texts) <= {0, 1, 2, 3}
        assert [token.value for token in extremes.lowest(0)] == [0.0, 0.0]

    def test_each_vector_counts_once_at_its_extreme_coordinate(self):
        text = tokenize_prompts(reading_model(), ["Tom was not happy"])[0]
        values = torch.zeros(5, 3)
        values[2] = torch.tensor([8.0, 9.0, -7.0])
        values[4, 0] = 5
        extremes = TokenExtremes(2)
        extremes.add_ends(values, torch.tensor([(0, pos) for pos in range(5)]), [text])
        assert [(found.pos, found.coordinate, found.value) for found in extremes.highest(0)] == [
            (2, 1, 9.0),
            (4, 0, 5.0),
        ]
        assert (extremes.lowest(0)[0].coordinate, extremes.lowest(0)[0].value) == (2, -7.0)

    def test_strongest(self):
        assert strongest(torch.tensor([[1.0, -5, 2], [0, 0, 2]]), 2) == [1, 2]


@pytest.mark.parametrize("masked", [False, True])
class TestAblation:
    def test_one_batch_equals_one_by_one(self, masked):
        model = reading_model(masked=masked)
        texts = tokenize_prompts(model, [MOON_PROMPT, *CONTRAST_PROMPTS])
        given = loss_input(model, texts)
        means, groups = noise(37), noise(40, 37, seed=1) > 0
        groups[1] = False
        for layer in range(2):
            together = ablated_losses(model, given, layer, groups=groups, means=means)
            by_text = ablated_text_losses(model, given, layer, groups=groups, means=means)
            for index in (0, 1, 17, 39):
                hook = (hook_names.mlp_post(layer), mean_ablation(groups[index : index + 1], means))
                with torch.no_grad(), model.hooks(fwd_hooks=[hook]):
                    run = {"attention_mask": given.mask, "labels": given.labels}
                    loss = model(given.tokens, "loss", **run)
                    each = model(given.tokens, "loss", loss_per_token=True, **run)
                assert float(together[index]) == pytest.approx(float(loss), abs=1e-5)
                np.testing.assert_allclose(by_text.total[index], each.double().sum(1), atol=1e-4)
            assert by_text.predicted.tolist() == given.scored.sum(1).tolist()
            assert len(given.answers) == given.scored.sum()

    def test_the_curve_starts_whole_ends_alike_and_finds_the_planted_neurons(self, masked):
        model = reading_model(masked=masked, n_layers=1)
        texts = tokenize_prompts(model, [MOON_PROMPT, *CONTRAST_PROMPTS])
        with torch.no_grad():
            model.blocks[0].mlp.W_in[:, :4] *= 30
            model.blocks[0].mlp.W_in[:, 4:] *= 0.1
            model.blocks[0].mlp.b_in.zero_()
            model.blocks[0].mlp.W_out[4:] = 0
        hook = hook_names.mlp_post(0)
        activations = cache_hooks(model, texts, [hook]).real(hook)
        given = loss_input(model, texts)
        curve = ablation_curve(model, given, 0, activations=activations, seed=0, n_orders=10)
        with torch.no_grad():
            whole = model(given.tokens, "loss", attention_mask=given.mask, labels=given.labels)
        assert curve.sizes == (0, 1, 2, 4, 8, 16, 32, 37)
        assert float(curve.ranked[0]) == pytest.approx(float(whole), abs=1e-5)
        assert torch.equal(curve.random[:, -1], curve.ranked[-1:].expand(10))
        assert set(curve.order[:4].tolist()) == {0, 1, 2, 3}
        change = (curve.ranked - curve.ranked[0]).abs()
        random = (curve.random - curve.random[:, :1]).abs().mean(0)
        assert change[3] > 2 * random[3]


def test_no_loss_where_nothing_can_be_predicted():
    model = reading_model()
    assert loss_input(model, tokenize_prompts(model, ["Tom"], prepend_bos=False)) is None
    masked = reading_model(masked=True)
    given = loss_input(masked, tokenize_prompts(masked, ["Tom"]))
    assert (given.labels != -100).sum() == 1
    masked.tokenizer.mask_token = None
    assert loss_input(masked, tokenize_prompts(masked, ["Tom was sad"])) is None


class TestProjections:
    def test_components_of_a_planted_plane(self):
        plane = noise(50, 2).double() * torch.tensor([5.0, 3.0])
        values = plane @ torch.linalg.qr(noise(8, 2, seed=1).double()).Q.T
        found = principal_components(values)
        assert float(found.shares[:2].sum()) == pytest.approx(1)
        variances = found.shares[:2].numpy()
        assert found.dimensions == pytest.approx(1 / (variances**2).sum(), rel=1e-6)
        assert torch.allclose(found.scores[:, :2].norm(), (values - values.mean(0)).norm())
        leading = found.scores.abs().argmax(0)
        assert (found.scores.gather(0, leading[None]) >= 0).all()

    def test_tsne_is_seeded_and_states_its_perplexity(self):
        values = torch.cat([noise(10, 4), noise(10, 4, seed=1) + 30])
        one, again = tsne(values, seed=0), tsne(values, seed=0)
        assert torch.equal(one.points, again.points)
        assert one.perplexity == pytest.approx(19 / 3)
        first, second = one.points[:10], one.points[10:]
        assert (first.mean(0) - second.mean(0)).norm() > max(first.std(0).norm(), second.std(0).norm())

    def test_too_few_points_are_refused_or_left_out(self):
        with pytest.raises(ValueError, match="too few"):
            tsne(noise(MIN_POINTS - 1, 4), seed=0)
        with pytest.raises(ValueError, match="different rows"):
            principal_components(torch.ones(4, 3))
        components, maps = token_maps({"few": noise(4, 5), "one": noise(1, 5), "same": torch.ones(9, 2)}, seed=0)
        assert list(components) == ["few"]
        assert not maps
