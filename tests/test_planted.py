"""Planted circuits read exactly what their formulas say."""

import math

import pytest
import torch

from lens_utils import hook_names
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.planted import (
    BETA,
    PlantedHead,
    PlantedModel,
    PlantedShape,
    Rule,
    copying_head,
    duplicate_token_head,
    first_token_head,
    induction_model,
    null_head,
    previous_token_head,
    q_composition_model,
    skip_trigram_head,
    uniform_head,
    v_composition_model,
)

V, N = 9, 17
SHAPE = PlantedShape(V, N)


def patterns(model: HookedTransformer, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Pattern of head 0 of each layer, [query, key]."""
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens)
    return [cache[hook_names.pattern(layer)][0, 0] for layer in range(model.cfg.n_layers)]


def repeated() -> torch.Tensor:
    """Token 0 as beginning of text, then 8 distinct tokens twice."""
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0)) + 1
    return torch.cat([torch.zeros(1, dtype=torch.long), order, order])[None]


def test_previous_token_head_at_finite_score() -> None:
    model = PlantedModel(SHAPE, ((previous_token_head(SHAPE, score=6.0),),)).build()
    (pattern,) = patterns(model, torch.randint(V, (1, N), generator=torch.Generator().manual_seed(1)))
    expected = sum(math.exp(6) / (math.exp(6) + i) for i in range(1, 17)) / 16
    assert expected == pytest.approx(0.979488, abs=1e-6)
    assert pattern.diagonal(-1).mean().item() == pytest.approx(expected, abs=1e-6)


def compositions(model: HookedTransformer) -> tuple[float, float, float]:
    """Q-, K- and V-composition of heads 0.0 and 1.0, straight from their definition."""
    first, second_qk, second_ov = model.OV.AB[0, 0], model.QK.AB[1, 0], model.OV.AB[1, 0]
    products = (first @ second_qk, first @ second_qk.T, first @ second_ov)
    norms = (second_qk.norm(), second_qk.norm(), second_ov.norm())
    return tuple((each.norm() / (first.norm() * norm)).item() for each, norm in zip(products, norms, strict=True))


def direct_attribution(model: HookedTransformer, tokens: torch.Tensor, answer: int) -> torch.Tensor:
    """What each head adds to the last position's logit of `answer`, [layer, head]."""
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens)
    z = torch.stack([cache[hook_names.z(layer)][0, -1] for layer in range(model.cfg.n_layers)])
    return (torch.einsum("lhd,lhdm->lhm", z, model.W_O) @ model.W_U[:, answer]).detach()


def test_induction_model_reads_exactly() -> None:
    model, tokens = induction_model(V, N).build(), repeated()
    previous, induction = patterns(model, tokens)
    assert (previous.diagonal(-1) == 1).all()
    assert all(induction[i, i - 7] == 1 for i in range(9, 17))
    with torch.inference_mode():
        loss = model(tokens, return_type="loss", loss_per_token=True)[0, 9:]
    assert loss.mean().item() == pytest.approx(math.log(1 + (V - 1) * math.exp(-BETA)), rel=1e-3)
    assert compositions(model) == pytest.approx((0, 1 / math.sqrt(V), 0), rel=1e-6)
    assert compositions(model)[1] == pytest.approx(0.3333, abs=1e-4)


def test_induction_model_by_parts() -> None:
    """The whole logit comes from head 1.0, and vanishes with either head."""
    model = induction_model(V, N).build()
    tokens = repeated()[:, :-1]
    answer = int(repeated()[0, -1])
    attributed = direct_attribution(model, tokens, answer)
    assert attributed.tolist() == [[0, 0], [10, 0]]
    with torch.inference_mode():
        assert model(tokens)[0, -1, answer] == 10
        for layer in (0, 1):
            with model.hooks(fwd_hooks=[(hook_names.z(layer), zero_head_0)]):
                assert model(tokens)[0, -1, answer] == 0


def zero_head_0(z: torch.Tensor, hook: object) -> torch.Tensor:
    z = z.clone()
    z[:, :, 0] = 0
    return z


@pytest.mark.parametrize("layer", [0, 1])
def test_induction_model_patching_table(layer: int) -> None:
    """The first copy replaced by unused tokens: what carries the answer where, in both directions."""
    model = induction_model(V, N).build()
    clean = torch.tensor([[0, 1, 2, 3, 4, 1, 2, 3]])
    corrupted = torch.tensor([[0, 5, 6, 7, 8, 1, 2, 3]])
    answer, copied = 4, 4
    hook = hook_names.resid_pre(layer)
    with torch.inference_mode():
        residual = {name: model.run_with_cache(each)[1][hook] for name, each in (("c", clean), ("x", corrupted))}

        def patched(base: torch.Tensor, other: torch.Tensor, positions: list[int]) -> float:
            def put(value: torch.Tensor, hook: object) -> torch.Tensor:
                value = value.clone()
                value[:, positions] = other[:, positions]
                return value

            return model.run_with_hooks(base, fwd_hooks=[(hook, put)])[0, -1, answer].item()

        denoised = [patched(corrupted, residual["c"], [pos]) for pos in range(8)]
        noised = [patched(clean, residual["x"], [pos]) for pos in range(8)]
        both = patched(corrupted, residual["c"], [copied - 1, copied])
    if layer == 0:
        assert denoised == [0] * 8, "no single position carries both the token and what came before it"
        assert noised == [0 if pos in (copied - 1, copied) else 10 for pos in range(8)]
        assert both == 10
    else:
        assert denoised == [10 if pos == copied else 0 for pos in range(8)]
        assert noised == [0 if pos == copied else 10 for pos in range(8)]


def test_induction_model_path_patching() -> None:
    """From head 0.0 into one input of head 1.0, the rest as in the clean run: it reads keys only."""
    model = induction_model(V, N).build()
    tokens = torch.tensor([[0, 1, 2, 3, 4, 1, 2, 3]])
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens)
        z = cache[hook_names.z(0)].clone()
        written = z[:, :, 0] @ model.W_O[0, 0]
        without = cache[hook_names.resid_pre(1)] - written
        kept = {}
        for name, weight, bias in (
            ("q", model.W_Q[1, 0], model.b_Q[1, 0]),
            ("k", model.W_K[1, 0], model.b_K[1, 0]),
            ("v", model.W_V[1, 0], model.b_V[1, 0]),
        ):

            def put(
                value: torch.Tensor, hook: object, weight: torch.Tensor = weight, bias: torch.Tensor = bias
            ) -> torch.Tensor:
                value = value.clone()
                value[:, :, 0] = without @ weight + bias
                return value

            hook = getattr(hook_names, name)(1)
            kept[name] = model.run_with_hooks(tokens, fwd_hooks=[(hook, put)])[0, -1, 4].item()
    assert kept == {"q": 10, "k": 0, "v": 10}


def test_query_composition_reads_exactly() -> None:
    model = q_composition_model(V, N).build()
    tokens = torch.tensor([[0, 3, 1, 4, 3, 5]])
    assert compositions(model) == pytest.approx((1 / math.sqrt(V + 4 * (N - 1)), 0, 0), rel=1e-6)
    assert patterns(model, tokens)[1][5, 1] == 1, "the token before the last stood at position 1 too"


def test_value_composition_reads_exactly() -> None:
    model = v_composition_model(V, N).build()
    assert compositions(model) == pytest.approx((0, 0, 1 / math.sqrt(V)), rel=1e-6)
    first, second = patterns(model, repeated())
    assert ((second @ first).diagonal(-2) == 1).all()


def blocks(*each: torch.Tensor) -> torch.Tensor:
    return torch.block_diag(*each)


def turn(degrees: float) -> torch.Tensor:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cosine, sine], [-sine, cosine]])


EIGHT = PlantedShape(8, 9)


@pytest.mark.parametrize(
    ("ov", "score", "own"),
    [
        (torch.eye(8), 1.0, 10.0),
        (-torch.eye(8), -1.0, -10.0),
        (torch.eye(8).roll(1, dims=1), 0.0, 0.0),
        (torch.diag(torch.tensor([1.0] * 6 + [-1.0] * 2)), 0.5, 5.0),
        (blocks(*[turn(60)] * 4), 0.5, 5.0),
        (torch.diag(torch.ones(7), 1), None, 0.0),
        (torch.eye(8) / 2, 1.0, 5.0),
    ],
    ids=["identity", "negative", "cyclic shift", "6+ 2-", "60 degrees", "nilpotent", "half"],
)
def test_copying_matrices_read_exactly(ov: torch.Tensor, score: float | None, own: float) -> None:
    """Eigenvalue score of the whole OV circuit, and the mean logit a head gives to its own token."""
    model = PlantedModel(EIGHT, ((copying_head(EIGHT, ov),),)).build()
    circuit = (model.W_E @ model.W_V[0, 0] @ model.W_O[0, 0] @ model.W_U).detach()
    assert torch.allclose(circuit, BETA * ov)
    assert circuit.diagonal().mean().item() == pytest.approx(own, abs=1e-4)
    values = torch.linalg.eigvals(circuit)
    if score is None:
        assert values.abs().max() == 0
    else:
        assert (values.sum().real / values.abs().sum()).item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize(
    ("ov", "own_logit"),
    [
        (torch.eye(V), 10.0),
        (-torch.eye(V), -10.0),
        (torch.eye(V).roll(1, dims=1), 0.0),
        (torch.eye(V) / 2, 5.0),
    ],
    ids=["identity", "negative", "shift", "half"],
)
def test_copying_heads_give_their_own_token_its_logit(ov: torch.Tensor, own_logit: float) -> None:
    model = PlantedModel(SHAPE, ((copying_head(SHAPE, ov),),)).build()
    tokens = torch.arange(1, V)[None]
    with torch.inference_mode():
        logits = model(tokens)[0]
    assert torch.equal(logits.gather(1, tokens.T).squeeze(), torch.full((V - 1,), own_logit))


def test_skip_trigrams_fire_where_both_tokens_are_present() -> None:
    head = skip_trigram_head(SHAPE, [(3, 5, 7), (4, 5, 8)])
    model = PlantedModel(SHAPE, ((head,),)).build()
    with torch.inference_mode():
        one = model(torch.tensor([[0, 3, 1, 5]]))[0, -1]
        both = model(torch.tensor([[0, 3, 4, 5]]))[0, -1]
        none = model(torch.tensor([[0, 1, 2, 5]]))[0, -1]
    assert one[7] == 10
    assert one[8] == 0
    assert both[7] == both[8] == 5
    assert none.abs().max() == 0


def test_attention_of_simple_heads() -> None:
    tokens = torch.tensor([[0, 1, 2, 1, 3, 1]])
    heads = {"first": first_token_head(SHAPE), "uniform": uniform_head(SHAPE), "duplicate": duplicate_token_head(SHAPE)}
    read = {name: patterns(PlantedModel(SHAPE, ((head,),)).build(), tokens)[0] for name, head in heads.items()}
    assert (read["first"][:, 0] == 1).all()
    entropy = torch.special.entr(read["uniform"]).sum(-1).mean().item()
    assert entropy == pytest.approx(sum(math.log(i + 1) for i in range(6)) / 6, abs=1e-6)
    assert read["duplicate"][3, 1] == 1
    assert read["duplicate"][5, 1] == read["duplicate"][5, 3] == 0.5
    assert read["duplicate"][2, 0] == 1


def test_bidirectional_heads_look_ahead() -> None:
    model = PlantedModel(SHAPE, ((previous_token_head(SHAPE, distance=-1),),), bidirectional=True).build()
    (pattern,) = patterns(model, repeated())
    assert (pattern.diagonal(1) == 1).all()


def test_rules_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[3, 3\], needs \[9, 9\]"):
        PlantedModel(SHAPE, ((copying_head(SHAPE, torch.eye(3)),),)).build()
    with pytest.raises(ValueError, match="subspace='Q'"):
        SHAPE.span("Q")
    with pytest.raises(ValueError, match=r"\[1, 2\] heads"):
        PlantedModel(SHAPE, ((null_head(),), (null_head(), null_head()))).build()
    rules = tuple(Rule(source, "T", torch.zeros(SHAPE.sizes[source], V)) for source in ("T", "P", "A"))
    with pytest.raises(ValueError, match="from T, P, A: need 35 dimensions, the head has 27"):
        PlantedModel(SHAPE, ((PlantedHead(qk=rules),),)).build()
