"""Paths sum to the logits and to the scores exactly, and planted paths are the ones that carry the signal."""

import math

import pytest
import torch
from conftest import toy_model

from lens_utils import hook_names
from lens_utils.circuits import path_expansion as paths
from lens_utils.circuits.score_terms import residual_sources, score_terms, scores_identity
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.processing import fold
from lens_utils.planted import BETA, induction_model, q_composition_model, v_composition_model
from lens_utils.prompts import TokenizedText

ATTENTION_ONLY = {"attn_only": True, "d_mlp": None, "act_fn": None}
V, N = 9, 17
REPEATED = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]


def text_of(tokens: list[int]) -> TokenizedText:
    strings = tuple(map(str, tokens))
    return TokenizedText(0, " ".join(strings), torch.tensor(tokens), strings, ("word",) * len(tokens))


KINDS = {
    "no norm": {"normalization_type": None},
    "folded norm": {},
    "shortformer": {"positional_embedding_type": "shortformer", "normalization_type": None},
    "no positions": {"positional_embedding_type": "none"},
    "four layers": {"n_layers": 4},
    "one layer": {"n_layers": 1},
    "local": {"use_local_attn": True, "attn_types": ("global", "local"), "window_size": 3, "use_attn_scale": False},
}


@pytest.fixture(params=list(KINDS))
def model(request) -> HookedTransformer:
    return fold(toy_model(**KINDS[request.param], **ATTENTION_ONLY))


def run_of(model: HookedTransformer, tokens: tuple[int, ...] = (3, 8, 1, 8, 20, 5, 3)) -> paths.FrozenRun:
    return paths.freeze(model, text_of(list(tokens)))


@pytest.mark.parametrize("kind", list(KINDS))
def test_paths_sum_to_the_logits(kind: str) -> None:
    run = run_of(fold(toy_model(**KINDS[kind], **ATTENTION_ONLY)))
    orders = paths.path_orders(run)
    identity = paths.logits_identity(run, orders)
    assert identity.holds
    assert identity.error < 2e-5
    broken = paths.Orders(orders.by_order[:-1], orders.biases)
    assert not paths.logits_identity(run, broken).holds, "an order left out is seen"


def test_unfolded_biases_count_too() -> None:
    model = toy_model(normalization_type=None, **ATTENTION_ONLY)
    assert model.b_V.abs().max() > 0
    run = run_of(model)
    assert paths.logits_identity(run, paths.path_orders(run)).holds


def test_orders_are_sums_of_heads_and_virtual_heads() -> None:
    run = run_of(fold(toy_model(**ATTENTION_ONLY)))
    orders = paths.path_orders(run)
    heads = sum(paths.head_terms(run, layer).sum(0) for layer in (0, 1))
    assert torch.allclose(orders.by_order[1], heads, atol=1e-5)
    assert torch.allclose(orders.by_order[2], paths.virtual_terms(run, 0, 1).sum((0, 1)), atol=1e-5)
    whole = paths.answer_logits(run, orders.by_order)
    targets = run.text.tokens[1:]
    direct = paths.through_unembedding(run, orders.by_order[0])[:-1]
    assert torch.allclose(whole[0], direct[range(6), targets] - direct.mean(1), atol=1e-5)


def test_kronecker_view() -> None:
    """A layer acts on the flattened [pos, d_model] as Id + sum over heads of A (x) W_OV^T."""
    model = toy_model(n_layers=2, normalization_type=None, **ATTENTION_ONLY)
    with torch.no_grad():
        for block in model.blocks:
            for bias in (block.attn.b_V, block.attn.b_O):
                bias.zero_()
    run = run_of(model)
    size = run.start.numel()
    flat = run.start.flatten()
    with torch.inference_mode():
        for layer in range(2):
            ov = model.OV.AB[layer]
            heads = sum(torch.kron(run.patterns[layer][head], ov[head].T.contiguous()) for head in range(3))
            flat = (torch.eye(size) + heads) @ flat
        logits = torch.kron(torch.eye(7), model.W_U.T.contiguous()) @ flat
    assert torch.allclose(logits.view(7, -1) + model.b_U, run.logits, atol=1e-5)


def test_virtual_patterns_are_products_and_rows_sum_to_one() -> None:
    run = run_of(fold(toy_model(**ATTENTION_ONLY)))
    found = paths.virtual_patterns(run, 0, 1)
    assert torch.allclose(found[2, 1], run.patterns[1][1] @ run.patterns[0][2], atol=1e-6)
    assert torch.allclose(found.sum(-1), torch.ones(3, 3, 7), atol=1e-5)


def test_planted_virtual_head_looks_two_back() -> None:
    run = run_of(v_composition_model(V, N).build(), tuple(REPEATED))
    assert (paths.virtual_patterns(run, 0, 1)[0, 0].diagonal(-2) == 1).all()
    terms = paths.through_unembedding(run, paths.virtual_terms(run, 0, 1)[0, 0])
    assert all(terms[i, REPEATED[i - 2]] == BETA for i in range(2, len(REPEATED)))


def test_planted_induction_is_one_head_reading_embeddings() -> None:
    """The value comes from the token itself: order 1, head 1.0; no virtual head takes part."""
    run = run_of(induction_model(V, N).build(), tuple(REPEATED))
    orders = paths.path_orders(run)
    given = paths.answer_logits(run, orders.by_order)[:, 9:]
    mean = BETA / V
    assert torch.allclose(given, torch.tensor([[0.0], [BETA - mean], [0.0]]).expand(3, 7), atol=1e-4)
    losses = paths.order_losses(run, orders)
    assert losses[0].item() == pytest.approx(math.log(V), rel=1e-5)
    whole = torch.nn.functional.cross_entropy(run.logits[:-1], run.text.tokens[1:])
    assert losses[1].item() == losses[2].item() == pytest.approx(whole.item(), rel=1e-5)


class TestScoreTerms:
    def test_sum_to_the_scores(self, model: HookedTransformer) -> None:
        run = run_of(model)
        for layer in range(model.cfg.n_layers):
            found = score_terms(run, layer)
            assert scores_identity(found).holds
            assert max(each.error for each in found) < 2e-5
            for each in found:
                assert each.covariance.sum().item() == pytest.approx(each.variance, rel=1e-9)
                assert each.shares.sum().item() == pytest.approx(1)

    def test_sources_sum_to_the_residual_stream(self) -> None:
        model = fold(toy_model(n_layers=3, **ATTENTION_ONLY))
        run = run_of(model)
        names, vectors = residual_sources(run, 2)
        assert names == ("token", "position", *(f"L{a}H{h}" for a in (0, 1) for h in range(3)), "bias")
        with torch.inference_mode():
            _, cache = model.run_with_cache(run.text.tokens[None])
        assert torch.allclose(vectors.sum(0), cache[hook_names.resid_pre(2)][0], atol=1e-5)

    def test_covariance_is_that_of_single_terms(self) -> None:
        run = run_of(fold(toy_model(**ATTENTION_ONLY)))
        names, vectors = residual_sources(run, 1)
        attn, head = run.model.blocks[1].attn, 2
        read = (vectors - vectors.mean(-1, keepdim=True)) / run.scales[1]
        with torch.inference_mode():
            query = read[names.index("token")] @ attn.W_Q[head]
            key = read[names.index("L0H1")] @ attn.W_K[head]
        term, score = query @ key.T / attn.score_divisor, run.scores[1][head]
        expected = sum(
            torch.cov(torch.stack([term[q, : q + 1], score[q, : q + 1]]), correction=0)[0, 1].item()
            for q in range(1, 7)
        )
        found = score_terms(run, 1)[head].covariance[names.index("token"), names.index("L0H1")]
        assert found.item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize(
        ("planted", "pair"),
        [(induction_model(V, N), ("token", "L0H0")), (q_composition_model(V, N), ("L0H0", "token"))],
        ids=["K-composition", "Q-composition"],
    )
    def test_planted_composition_is_the_term(self, planted, pair) -> None:
        run = run_of(planted.build(), tuple(REPEATED))
        (found, *_) = score_terms(run, 1)
        names = found.sources
        shares = found.shares
        one, other = names.index(pair[0]), names.index(pair[1])
        rest = {(i, j) for i in range(len(names)) for j in range(len(names)) if abs(shares[i, j]) > 0.01}
        # Beside the composition itself: the sink on the first position, and the rule against the previous position
        positional = {(names.index("bias"), names.index("position")), (names.index("position"),) * 2}
        assert (one, other) in rest
        assert rest - {(one, other)} <= positional
        if pair[0] == "token":
            assert shares[one, other] > 0.2

    def test_constant_scores_have_no_share(self) -> None:
        run = run_of(induction_model(V, N).build(), tuple(REPEATED))
        null = score_terms(run, 1)[1]
        assert null.variance == 0
        assert null.shares.isnan().all()


def test_mlps_are_refused() -> None:
    with pytest.raises(ValueError, match="has MLPs"):
        run_of(toy_model(normalization_type=None))
