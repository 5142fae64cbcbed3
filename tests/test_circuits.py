"""Token circuits, copying and composition: exact on planted models, equal to the slow way on random ones."""

import math

import pytest
import torch
from conftest import toy_model
from toy_text import reading_model

from lens_utils import hook_names
from lens_utils.circuits import composition, token_circuits
from lens_utils.circuits.copying import (
    NOTIONS,
    eigenvalue_score,
    ov_eigenvalues,
    own_token_notions,
    unembedding_gram,
    weight_copying,
)
from lens_utils.circuits.copying_text import text_copying
from lens_utils.circuits.token_circuits import TokenCircuit
from lens_utils.circuits.weights import check_attention, check_circuits, check_paths, typical_scales
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.processing import fold
from lens_utils.null_models import shuffled_weights
from lens_utils.planted import (
    PlantedModel,
    PlantedShape,
    copying_head,
    induction_model,
    null_head,
    previous_token_head,
    q_composition_model,
    skip_trigram_head,
    v_composition_model,
)
from lens_utils.prompts import MOON_PROMPT, TokenizedText, tokenize_prompts

V, N = 9, 17
SHAPE = PlantedShape(V, N)
EIGHT = PlantedShape(8, 9)
ATTENTION_ONLY = {"attn_only": True, "d_mlp": None, "act_fn": None}


def random_circuit(rows: int, columns: int, rank: int = 5, seed: int = 0) -> TokenCircuit:
    generator = torch.Generator().manual_seed(seed)
    return TokenCircuit(torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator))


def text_of(tokens: list[int]) -> TokenizedText:
    strings = tuple(map(str, tokens))
    return TokenizedText(0, " ".join(strings), torch.tensor(tokens), strings, ("word",) * len(tokens))


class TestTokenCircuits:
    @pytest.mark.parametrize("shape", [(50, 3000), (700, 130), (3, 2), (1, 700)])
    def test_extremes_equal_those_of_the_whole_matrix(self, monkeypatch, shape) -> None:
        monkeypatch.setattr(token_circuits, "BLOCK_VALUES", 4000)
        circuit = random_circuit(*shape)
        whole = circuit.left @ circuit.right
        k = min(7, whole.numel())
        for found, largest in zip(token_circuits.extreme_entries(circuit, k), (True, False), strict=True):
            top = whole.flatten().topk(k, largest=largest)
            assert torch.allclose(found.values, top.values)
            assert torch.equal(found.rows * shape[1] + found.columns, top.indices)
            assert torch.allclose(circuit.at(found.rows, found.columns), found.values, atol=1e-5)

    @pytest.mark.parametrize("largest", [True, False])
    @pytest.mark.parametrize("columns", [3000, 64 * 15, 20])
    def test_row_extremes_equal_topk(self, monkeypatch, columns, largest) -> None:
        monkeypatch.setattr(token_circuits, "BLOCK_VALUES", 4 * columns)
        circuit = random_circuit(11, columns)
        found = token_circuits.row_extremes(circuit, 6, largest=largest)
        top = (circuit.left @ circuit.right).topk(6, largest=largest)
        assert torch.allclose(found.values, top.values)
        assert torch.equal(found.columns, top.indices)

    def test_a_block_is_bounded_whatever_the_vocabulary(self) -> None:
        circuit = TokenCircuit(torch.zeros(40_000, 2), torch.zeros(2, 40_000))
        _, block = next(circuit.blocks())
        assert block.numel() <= token_circuits.BLOCK_VALUES

    def test_own_ranks_share_ties(self) -> None:
        circuit = TokenCircuit(torch.eye(3), torch.tensor([[1.0, 2, 0], [5, 5, 5], [0, 0, 9]]))
        found = token_circuits.own_ranks(circuit, torch.arange(3))
        assert found.ranks.tolist() == [2, 2, 1]
        assert found.within(1).tolist() == [0, 0, 1]
        assert found.within(2).tolist() == [1, 0, 1]
        assert found.within(3).tolist() == [1, 1, 1]

    def test_log_probabilities(self) -> None:
        circuit, bias = random_circuit(6, 40), torch.linspace(-1, 1, 40)
        expected = (circuit.left @ circuit.right + bias).log_softmax(1)
        found = token_circuits.log_probabilities(circuit.plus(columns=bias))
        assert torch.allclose(found.left @ found.right, expected, atol=1e-5)

    def test_planted_skip_trigrams_are_the_only_entries(self) -> None:
        head = skip_trigram_head(SHAPE, [(3, 5, 7), (4, 5, 8)])
        model = PlantedModel(SHAPE, ((head,),)).build()
        qk = token_circuits.qk_circuit(model, 0, 0)
        ov = token_circuits.ov_circuit(model, 0, 0)
        for circuit, value, places in ((qk, 240.0, {(5, 3), (5, 4)}), (ov, 10.0, {(3, 7), (4, 8)})):
            high, low = token_circuits.extreme_entries(circuit, 3)
            found = set(zip(high.rows[:2].tolist(), high.columns[:2].tolist(), strict=True))
            assert found == places
            assert high.values[:2].tolist() == pytest.approx([value] * 2)
            assert high.values[2] == low.values[0] == 0

    def test_qk_entries_are_the_scores_of_the_model(self) -> None:
        """Without positions, one layer's scores are the QK circuit's entries, biases included."""
        model = toy_model(n_layers=1, positional_embedding_type="none", normalization_type=None, **ATTENTION_ONLY)
        tokens = torch.tensor([[3, 8, 1, 8]])
        with torch.inference_mode():
            _, cache = model.run_with_cache(tokens)
        for head in range(3):
            circuit = token_circuits.qk_circuit(model, 0, head)
            expected = cache[hook_names.attn_scores(0)][0, head]
            for query in range(4):
                for key in range(query + 1):
                    entry = circuit.at(tokens[0, [query]], tokens[0, [key]])
                    assert entry.item() == pytest.approx(expected[query, key].item(), abs=1e-5)

    @pytest.mark.parametrize("changes", [{"normalization_type": None}, {}])
    def test_direct_path_is_what_the_model_says_of_an_embedding_alone(self, changes) -> None:
        model = fold(toy_model(**changes, positional_embedding_type="none", **ATTENTION_ONLY))
        circuit = token_circuits.direct_path(model)
        with torch.inference_mode():
            expected = model(model.W_E.unsqueeze(1), start_at_layer=2)[:, 0]
        assert torch.allclose(circuit.left @ circuit.right, expected, atol=1e-5)

    def test_nothing_is_asked_for(self) -> None:
        with pytest.raises(ValueError, match="k=0"):
            token_circuits.extreme_entries(random_circuit(3, 3), 0)


class TestRefusals:
    def test_post_norm_unfolded_and_shallow_models(self) -> None:
        with pytest.raises(ValueError, match="post-norm"):
            check_circuits(reading_model(masked=True))
        with pytest.raises(ValueError, match="processing='folded'"):
            check_circuits(toy_model())
        with pytest.raises(ValueError, match="no attention layer"):
            check_attention(toy_model(n_layers=0, normalization_type=None, **ATTENTION_ONLY))
        with pytest.raises(ValueError, match="has MLPs"):
            check_paths(toy_model(normalization_type=None))
        with pytest.raises(ValueError, match="has 1 layers"):
            composition.composition_scores(toy_model(n_layers=1, normalization_type=None))


def test_typical_scales_are_the_models_own() -> None:
    model = fold(reading_model(**ATTENTION_ONLY))
    texts = tokenize_prompts(model, (MOON_PROMPT,))
    with torch.inference_mode():
        _, cache = model.run_with_cache(texts[0].tokens[None])
    found = typical_scales(model, texts)
    assert found.before[1] == pytest.approx(cache[hook_names.ln_scale(1, 1)][0, 1:].median().item(), rel=0.05)
    assert found.final == pytest.approx(cache[hook_names.LN_FINAL_SCALE][0, 1:].median().item(), rel=0.05)
    assert 0 < found.spread < 2
    plain = typical_scales(reading_model(normalization_type=None, **ATTENTION_ONLY), texts)
    assert (plain.before, plain.final, plain.spread) == ((1.0, 1.0), 1.0, 0.0)
    assert "no LayerNorm" in plain.statement


def turn(degrees: float) -> torch.Tensor:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cosine, sine], [-sine, cosine]])


def planted_copying(ov: torch.Tensor) -> HookedTransformer:
    return PlantedModel(EIGHT, ((copying_head(EIGHT, ov), null_head()),)).build()


class TestCopying:
    @pytest.mark.parametrize(
        ("ov", "score", "top1", "rank", "own"),
        [
            (torch.eye(8), 1.0, 1.0, 0.0, 10.0),
            (-torch.eye(8), -1.0, 0.0, 1.0, -10.0),
            (torch.eye(8).roll(1, dims=1), 0.0, 0.0, 4 / 7, 0.0),
            (torch.diag(torch.tensor([1.0] * 6 + [-1.0] * 2)), 0.5, 0.75, 0.25, 5.0),
            (torch.block_diag(*[turn(60)] * 4), 0.5, 0.5, 0.5 / 7, 5.0),
            (torch.diag(torch.ones(7), 1), math.nan, 0.0, (7 * 4 + 3.5) / 8 / 7, 0.0),
            (torch.eye(8) / 2, 1.0, 1.0, 0.0, 5.0),
        ],
        ids=["identity", "negative", "cyclic shift", "6+ 2-", "60 degrees", "nilpotent", "half"],
    )
    def test_planted_heads_read_exactly(self, ov, score, top1, rank, own) -> None:
        model = planted_copying(ov)
        values = ov_eigenvalues(model.W_V[0].detach(), model.W_O[0].detach(), unembedding_gram(model))
        assert eigenvalue_score(values)[0].item() == pytest.approx(score, abs=1e-5, nan_ok=True)
        found = own_token_notions(token_circuits.ov_circuit(model, 0, 0), torch.arange(8))
        assert found["own_top1"] == pytest.approx(top1)
        assert found["own_rank"] == pytest.approx(rank)
        text = text_of([0, 1, 2, 3, 4, 5, 6, 7])
        on_text = text_copying(model, [text], seed=0, n_null=3)
        mean_logit = ov.mean().item() * 10
        assert on_text.mean[0].item() == pytest.approx(own - mean_logit, abs=1e-4)
        assert on_text.mean[1] == 0
        assert math.isnan(eigenvalue_score(values)[1])

    def test_eigenvalues_are_those_of_the_whole_circuit(self) -> None:
        model = toy_model(normalization_type=None, **ATTENTION_ONLY)
        found = ov_eigenvalues(model.W_V.detach(), model.W_O.detach(), unembedding_gram(model))
        whole = model.W_E @ model.W_V[1, 2] @ model.W_O[1, 2] @ model.W_U
        expected = torch.linalg.eigvals(whole.detach().double())
        expected = expected[expected.abs().argsort(descending=True)][:5]
        ours = found[1, 2][found[1, 2].abs().argsort(descending=True)]
        assert torch.allclose(ours.abs(), expected.abs(), rtol=1e-4)
        score = expected.sum().real / expected.abs().sum()
        assert eigenvalue_score(found)[1, 2].item() == pytest.approx(score.item(), abs=1e-5)

    def test_on_text_is_the_slow_sum(self) -> None:
        model = fold(reading_model(**ATTENTION_ONLY))
        (text,) = tokenize_prompts(model, ("Jack and Lily liked Lily",))
        with torch.inference_mode():
            _, cache = model.run_with_cache(text.tokens[None])
        found = text_copying(model, [text], seed=0, n_null=2)
        pattern, v = cache[hook_names.pattern(1)][0, 2], cache[hook_names.v(1)][0, :, 2]
        b_v, w_o, w_u = model.b_V[1, 2].detach(), model.W_O[1, 2].detach(), model.W_U.detach()
        raised = mass = 0.0
        for query in range(len(text)):
            for key in range(1, query + 1):
                out = (v[key] - b_v) @ w_o / cache[hook_names.LN_FINAL_SCALE][0, query]
                logits = out @ w_u
                raised += (pattern[query, key] * (logits[text.tokens[key]] - logits.mean())).item()
                mass += pattern[query, key].item()
        assert found.mean[5].item() == pytest.approx(raised / mass, abs=1e-5)

    def test_random_heads_are_no_copying_heads(self) -> None:
        """1.5 sd around 0 for the mean of 100 scores; half of the tokens rank above the own one."""
        model = shuffled_weights(fold(reading_model(**ATTENTION_ONLY)), seed=1)
        found = weight_copying(model, scales=(1.0, 1.0), seed=0, n_null=100)
        assert tuple(found.null) == tuple(found.notions) == NOTIONS
        for name, chance in (("eigenvalue_score", 0.0), ("own_rank", 0.5)):
            null = found.null[name]
            assert null.mean().item() == pytest.approx(chance, abs=4 * null.std().item() / 10)
        assert found.null["own_top1"].mean() < 0.15

    def test_the_text_null_has_the_norms_of_the_head(self) -> None:
        model = fold(reading_model(**ATTENTION_ONLY))
        texts = tokenize_prompts(model, (MOON_PROMPT,))
        before = text_copying(model, texts, seed=0, n_null=50).null.std(0)
        with torch.no_grad():
            model.blocks[1].attn.W_O[0] *= 3
        after = text_copying(model, texts, seed=0, n_null=50).null.std(0)
        # Against another head of the layer, as the final LayerNorm's scale moves for all of them
        assert (after[3] / after[4]).item() == pytest.approx(3 * (before[3] / before[4]).item(), rel=0.1)


def slow_composition(model: HookedTransformer, one: tuple[int, int], other: tuple[int, int]) -> list[float]:
    ov1, qk2, ov2 = model.OV.AB[one], model.QK.AB[other], model.OV.AB[other]
    products = (ov1 @ qk2, ov1 @ qk2.T, ov1 @ ov2)
    norms = (qk2.norm(), qk2.norm(), ov2.norm())
    return [(each.norm() / (ov1.norm() * norm)).item() for each, norm in zip(products, norms, strict=True)]


class TestComposition:
    @pytest.mark.parametrize(
        ("planted", "expected"),
        [
            (induction_model(V, N), (0, 1 / math.sqrt(V), 0)),
            (q_composition_model(V, N), (1 / math.sqrt(V + 4 * (N - 1)), 0, 0)),
            (v_composition_model(V, N), (0, 0, 1 / math.sqrt(V))),
        ],
        ids=["K", "Q", "V"],
    )
    def test_planted_models_read_exactly(self, planted, expected) -> None:
        found = composition.composition_scores(planted.build())
        assert found[:, 0, 2].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert (found[:, 1, 2:] == 0).all(), "null heads are 0"
        assert (found[:, :2, 3] == 0).all()
        assert found[:, 2:].isnan().all()
        assert found[:, :, :2].isnan().all()

    def test_equals_the_full_products(self) -> None:
        model = fold(toy_model(n_layers=3, **ATTENTION_ONLY))
        found = composition.composition_scores(model)
        for sender, receiver in ((0, 3), (2, 8), (5, 7), (1, 4)):
            expected = slow_composition(model, divmod(sender, 3), divmod(receiver, 3))
            assert found[:, sender, receiver].tolist() == pytest.approx(expected, rel=1e-4)
        assert torch.equal(~found[0].isnan(), composition.is_pair(3, 3))

    def test_blocks_of_rows_add_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = fold(toy_model(n_layers=3, **ATTENTION_ONLY))
        at_once = composition.composition_scores(model)
        monkeypatch.setattr(composition, "_BLOCK_VALUES", 5 * model.cfg.d_model * 24)
        torch.testing.assert_close(composition.composition_scores(model), at_once, equal_nan=True)

    def test_heads_wider_than_the_residual_stream(self) -> None:
        model = toy_model(d_head=20, normalization_type=None, **ATTENTION_ONLY)
        found = composition.composition_scores(model)[:, 1, 4].tolist()
        assert found == pytest.approx(slow_composition(model, (0, 1), (1, 1)), rel=1e-4)

    def test_random_heads_sit_at_one_over_the_root_of_d_model(self) -> None:
        scores = composition.random_scores(512, 32, n=128, seed=0)
        assert scores.mean().item() == pytest.approx(0.0442, rel=0.01)
        assert 0 < scores.std() < 0.002
        assert torch.equal(scores, composition.random_scores(512, 32, n=128, seed=0))

    def test_rotations_keep_spectra_and_lose_directions(self) -> None:
        model = induction_model(V, N).build()
        null = composition.rotation_null(model, n=40, seed=0)
        assert null.mean[1, 0, 2].item() == pytest.approx(1 / math.sqrt(SHAPE.d_model), rel=0.1)
        found = composition.composition_scores(model)
        z = composition.z_scores(found, null.mean, null.sd)
        assert z[1, 0, 2] > 5
        assert (z[:, 1, 2:] == 0).all(), "null heads have no spread"
        assert z[:, 2:].isnan().all()
        assert null.standardised.shape == (40, 3, 4, 4)

    def test_a_random_model_composes_like_random_heads(self) -> None:
        model = toy_model(d_model=64, d_head=8, n_heads=4, normalization_type=None, **ATTENTION_ONLY)
        null = composition.random_scores(64, 8, n=400, seed=0)
        found = composition.composition_scores(model)[:, :4, 4:]
        z = composition.z_scores(found, null.mean().item(), null.std().item())
        assert z.abs().max() < 4
        assert abs(z.mean()) < 0.5

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match="n=1"):
            composition.rotation_null(induction_model(V, N).build(), n=1, seed=0)


def test_previous_token_head_writes_no_logits() -> None:
    model = PlantedModel(SHAPE, ((previous_token_head(SHAPE),),)).build()
    high, low = token_circuits.extreme_entries(token_circuits.ov_circuit(model, 0, 0), 1)
    assert high.values[0] == low.values[0] == 0
