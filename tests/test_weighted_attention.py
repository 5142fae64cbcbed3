"""Three definitions of weighted attention: exact on random models, known in advance on planted heads."""

import pytest
import torch
from conftest import ARCHITECTURES, random_tokens, toy_model

from lens_utils import hook_names
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.planted import (
    PlantedHead,
    PlantedModel,
    PlantedShape,
    Rule,
    copying_head,
    first_token_head,
    induction_model,
    null_head,
    previous_token_head,
    uniform_head,
)
from lens_utils.weighted_attention import (
    attention_hooks,
    attention_identities,
    attention_times_value,
    moved,
    norm_weighted,
    share_on,
    value_along_z,
    value_norm_weighted,
    weighted_attention,
)

WITH_LAYERS = {name: fields for name, fields in ARCHITECTURES.items() if name != "zero-layer"}
SHAPE = PlantedShape(9, 17)
DISTINCT = torch.tensor([[0, 3, 1, 4, 8, 5, 2]])


def cached(model: HookedTransformer, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens, names_filter=list(attention_hooks(model)))
    return dict(cache.items())


def planted(*heads: PlantedHead, bidirectional: bool = False) -> HookedTransformer:
    return PlantedModel(SHAPE, (heads,), bidirectional=bidirectional).build()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", WITH_LAYERS)
def test_identities_hold_on_every_architecture(name: str, dtype: torch.dtype):
    model = toy_model(dtype=dtype, **WITH_LAYERS[name])
    checks = attention_identities(model, cached(model, random_tokens(batch=1)))
    assert [check.name for check in checks] == [
        "rows sum to one", "attention times value", "sources along z", "moved vectors",
    ]  # fmt: skip
    assert all(check.holds for check in checks), checks
    assert all(check.tolerance < (1e-3 if dtype == torch.float32 else 1e-11) for check in checks), "not a loose bound"


@pytest.mark.parametrize("hook", [hook_names.z, hook_names.attn_out, hook_names.pattern])
def test_identities_notice_a_wrong_activation(hook):
    model = toy_model()
    cache = cached(model, random_tokens(batch=1))
    cache[hook(1)] = cache[hook(1)] + 1e-3
    assert not all(check.holds for check in attention_identities(model, cache))
    cache[hook(1)] = cache[hook(1)] * torch.nan
    assert not all(check.holds for check in attention_identities(model, cache))


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_each_definition_is_its_formula(name: str):
    """The fast forms against the vectors themselves, built in full."""
    model = toy_model(dtype=torch.float64, **WITH_LAYERS[name])
    cache = cached(model, random_tokens(batch=1))
    found = weighted_attention(model, cache)
    for layer in range(model.cfg.n_layers):
        pattern, v = cache[hook_names.pattern(layer)], cache[hook_names.v(layer)]
        values = torch.einsum("bhqk,bkhd->bhqkd", pattern, v)
        written = torch.einsum("bhqkd,hdm->bhqkm", values, model.W_O[layer])
        z = values.sum(-2)
        torch.testing.assert_close(found.z[layer], z[0])
        torch.testing.assert_close(found.z[layer], cache[hook_names.z(layer)][0].transpose(0, 1))
        torch.testing.assert_close(found.value_norm_weighted[layer], values.norm(dim=-1)[0])
        torch.testing.assert_close(found.norm_weighted[layer], written.norm(dim=-1)[0].detach())
        torch.testing.assert_close(found.along_z[layer].sum(-1), z.norm(dim=-1)[0])
        out = written.sum((1, 3)) + model.b_O[layer]
        torch.testing.assert_close(out, cache[hook_names.attn_out(layer)])


def test_biases_of_values_count_and_of_the_output_do_not():
    model = toy_model(dtype=torch.float64)
    with torch.no_grad():
        model.blocks[0].attn.W_V.zero_()
        model.blocks[0].attn.b_O.fill_(100.0)
    found = weighted_attention(model, cached(model, random_tokens(batch=1)))
    bias = torch.einsum("hd,hdm->hm", model.b_V[0], model.W_O[0]).norm(dim=-1).detach()
    torch.testing.assert_close(found.norm_weighted[0], found.pattern[0] * bias[:, None, None])


def test_measurements_leave_the_cache_as_it_was():
    model = toy_model()
    cache = cached(model, random_tokens(batch=1))
    before = {name: value.clone() for name, value in cache.items()}
    weighted_attention(model, cache)
    attention_identities(model, cache)
    assert all(torch.equal(cache[name], value) for name, value in before.items())


class TestPlanted:
    """Values are one-hot, so each definition has a number known in advance."""

    def test_a_previous_token_head_moves_one_whole_token(self):
        model = planted(previous_token_head(SHAPE))
        found = weighted_attention(model, cached(model, DISTINCT))
        expected = torch.diag(torch.ones(6), -1)
        expected[0, 0] = 1
        for view in (found.pattern, found.value_norm_weighted, found.norm_weighted, found.along_z):
            assert torch.equal(view[0, 0], expected)

    @pytest.mark.parametrize("scale", [0.5, 2.0, 0.0])
    def test_the_output_matrix_counts_in_one_definition_only(self, scale: float):
        model = planted(copying_head(SHAPE, scale * torch.eye(9)))
        found = weighted_attention(model, cached(model, DISTINCT))
        assert torch.equal(found.pattern[0, 0], torch.eye(7))
        assert torch.equal(found.value_norm_weighted[0, 0], torch.eye(7))
        assert torch.equal(found.along_z[0, 0], torch.eye(7))
        assert torch.equal(found.norm_weighted[0, 0], scale * torch.eye(7))

    def test_a_head_that_reads_nothing_has_a_pattern_and_no_weight(self):
        model = planted(null_head())
        found = weighted_attention(model, cached(model, DISTINCT))
        assert found.pattern[0, 0, 6].tolist() == pytest.approx([1 / 7] * 7)
        for view in (found.value_norm_weighted, found.norm_weighted, found.along_z, found.z):
            assert torch.equal(view, torch.zeros_like(view))
        assert all(check.holds for check in attention_identities(model, cached(model, DISTINCT)))

    def test_uniform_attention_over_distinct_tokens(self):
        """z_i is the mean of i + 1 orthogonal units: length (i+1)^-1/2, to which each adds (i+1)^-3/2."""
        model = planted(uniform_head(SHAPE))
        found = weighted_attention(model, cached(model, DISTINCT))
        seen = torch.arange(1, 8, dtype=torch.float32)[:, None]
        torch.testing.assert_close(found.value_norm_weighted[0, 0], (1 / seen).expand(7, 7).tril())
        torch.testing.assert_close(found.along_z[0, 0], seen.pow(-1.5).expand(7, 7).tril())
        torch.testing.assert_close(found.z[0, 0].norm(dim=-1), seen[:, 0] ** -0.5)

    def test_sources_that_cancel_work_against_each_other(self):
        """v = 3, -1 along one axis, weights one half: z = 1, to which the second adds -0.5."""
        pattern = torch.full((1, 1, 2, 2), 0.5)
        v = torch.tensor([3.0, -1.0]).reshape(1, 2, 1, 1)
        assert attention_times_value(pattern, v).flatten().tolist() == [1, 1]
        assert value_along_z(pattern, v)[0, 0].tolist() == [[1.5, -0.5]] * 2
        assert value_norm_weighted(pattern, v)[0, 0].tolist() == [[1.5, 0.5]] * 2
        weights = torch.tensor([[[2.0, 0.0]]])
        assert moved(v, weights).flatten().tolist() == [6, 0, -2, 0]
        assert norm_weighted(pattern, v, weights)[0, 0].tolist() == [[3, 1]] * 2

    def test_weight_lies_where_something_is_moved(self):
        """A uniform head that moves one token only: raw attention is even, weighted attention lies on that token."""
        outputs = torch.zeros(9, 9)
        outputs[3, 2] = 2.0
        model = planted(PlantedHead(ov=(Rule("T", "O", outputs),), sink=0.0))
        found = weighted_attention(model, cached(model, DISTINCT))
        assert found.norm_weighted[0, 0, 3].tolist() == pytest.approx([0, 0.5, 0, 0, 0, 0, 0])
        assert share_on(found.norm_weighted, [1])[0, 0, 1:].tolist() == pytest.approx([1] * 6)
        assert share_on(found.pattern, [1, 2])[0, 0, 3:].tolist() == pytest.approx([2 / 4, 2 / 5, 2 / 6, 2 / 7])
        assert share_on(found.norm_weighted, [1])[0, 0, 0].isnan(), "a row without weight has no share"

    def test_bidirectional_heads_are_weighted_ahead_too(self):
        model = planted(previous_token_head(SHAPE, distance=-1), bidirectional=True)
        found = weighted_attention(model, cached(model, DISTINCT))
        assert (found.norm_weighted[0, 0].diagonal(1) == 1).all()

    def test_several_heads_and_layers_keep_their_places(self):
        model = induction_model().build()
        found = weighted_attention(model, cached(model, torch.tensor([[0, 1, 2, 3, 1, 2, 3]])))
        assert found.norm_weighted.shape == (2, 2, 7, 7)
        assert found.norm_weighted[1, 0, 4, 2] == 1
        assert found.norm_weighted[:, 1].abs().max() == 0

    def test_first_token_head(self):
        model = planted(first_token_head(SHAPE))
        found = weighted_attention(model, cached(model, DISTINCT))
        assert (found.norm_weighted[0, 0, :, 0] == 1).all()


def test_no_layers_and_several_texts_are_refused():
    model = toy_model(**ARCHITECTURES["zero-layer"])
    with pytest.raises(ValueError, match="'toy' has no attention layer"):
        weighted_attention(model, {})
    model = toy_model()
    with pytest.raises(ValueError, match="batch of 2 texts"):
        weighted_attention(model, cached(model, random_tokens(batch=2)))
