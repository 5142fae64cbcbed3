"""Skip-trigrams: planted ones are mined and hold, crossed ones are found, a model without structure has none."""

import random

import pytest
import torch
from toy_text import reading_model

from experiments import skip_trigrams
from lens_utils.circuits.skip_trigrams import candidate_tokens, crossings, follow_counts, mine
from lens_utils.circuits.texts import Texts, circuit_texts
from lens_utils.circuits.trigram_check import check_trigrams
from lens_utils.circuits.trigram_study import Plan, study_trigrams
from lens_utils.circuits.weights import Scales
from lens_utils.hooked_transformer.processing import fold
from lens_utils.models import load_model
from lens_utils.null_models import shuffled_weights
from lens_utils.planted import PlantedModel, PlantedShape, null_head, skip_trigram_head
from lens_utils.prompts import TokenizedText
from lens_utils.tables import to_csv, to_markdown

ATTENTION_ONLY = {"attn_only": True, "d_mlp": None, "act_fn": None}
SHAPE = PlantedShape(12, 24)
PLAIN = Scales((1.0,), 1.0, 0.0)
EVERY = torch.arange(1, 12)


def text_of(tokens: list[int], index: int = 0) -> TokenizedText:
    strings = tuple(map(str, tokens))
    classes = ("special",) + ("word",) * (len(tokens) - 1)
    return TokenizedText(index, " ".join(strings), torch.tensor(tokens), strings, classes)


def random_texts(n: int = 40) -> tuple[TokenizedText, ...]:
    rng = random.Random(0)
    return tuple(text_of([0, *(rng.randrange(1, 12) for _ in range(20))], index) for index in range(n))


def planted(*trigrams: tuple[int, int, int]):
    return PlantedModel(SHAPE, ((skip_trigram_head(SHAPE, trigrams), null_head()),)).build()


class TestMining:
    def test_planted_trigrams_are_all_that_is_found(self) -> None:
        model = planted((3, 5, 7), (4, 6, 8))
        found = mine(model, 0, 0, EVERY, scales=PLAIN)
        assert {(each.source, each.current, each.predicted) for each in found} == {(3, 5, 7), (4, 6, 8)}
        assert found[0].qk == pytest.approx(240 * (1 - 1 / 11), rel=1e-5)
        assert found[0].ov == pytest.approx(10 * (1 - 1 / 12), rel=1e-5)
        assert mine(model, 0, 1, EVERY, scales=PLAIN) == (), "a null head holds none"

    def test_top_and_per_source_bound_the_list(self) -> None:
        model = planted((3, 5, 7), (3, 5, 8), (3, 6, 7), (3, 6, 8), (4, 6, 9))
        assert len(mine(model, 0, 0, EVERY, scales=PLAIN, per_source=3)) == 4
        assert len(mine(model, 0, 0, EVERY, scales=PLAIN, per_source=3, top=2)) == 2

    def test_products_are_the_largest(self) -> None:
        model = fold(reading_model(n_layers=1, **ATTENTION_ONLY))
        tokens = torch.arange(6, 30)
        scales = Scales((1.7,), 2.1, 0.1)
        found = mine(model, 0, 1, tokens, scales=scales, top=8, per_source=100)
        attn, x = model.blocks[0].attn, (model.W_E - model.W_E.mean(-1, keepdim=True))
        queries = x / 1.7 @ attn.W_Q[1] + attn.b_Q[1]
        keys = x / 1.7 @ attn.W_K[1] + attn.b_K[1]
        qk = (queries @ keys.T / attn.score_divisor)[tokens][:, tokens]
        qk = (qk - qk.mean(1, keepdim=True)).detach()
        ov = x / (1.7 * 2.1) @ attn.W_V[1] @ attn.W_O[1] @ model.W_U
        ov = (ov - ov.mean(1, keepdim=True))[tokens][:, tokens].detach()
        products = qk.T.clamp(min=0)[:, :, None] * ov.clamp(min=0)[:, None, :]
        expected = products.flatten().topk(8).values
        assert [each.qk * each.ov for each in found] == pytest.approx(expected.tolist(), rel=1e-3)

    def test_candidates(self) -> None:
        texts = [text_of([0, 1, 1, 2, 3, 3, 3]), text_of([0, 3, 2, 4])]
        assert candidate_tokens(texts, least=1).tolist() == [1, 2, 3, 4]
        assert candidate_tokens(texts, least=2).tolist() == [1, 2, 3]
        with pytest.raises(ValueError, match=r"least=4.* only 1 tokens"):
            candidate_tokens(texts, least=4)

    def test_follow_counts(self) -> None:
        texts = [text_of([0, 5, 7, 3, 5, 7, 5, 8, 5]), text_of([0, 5, 7])]
        assert follow_counts(texts, 3, [5], [7, 8]) == {(5, 7): 1, (5, 8): 1}
        assert follow_counts(texts, 9, [5], [7]) == {}
        assert follow_counts(texts, 0, [5]) == {(5, 7): 3, (5, 8): 1}


class TestCheck:
    def test_planted_trigrams_move_exactly_their_logit(self) -> None:
        model = planted((3, 5, 7))
        (mined,) = mine(model, 0, 0, EVERY, scales=PLAIN)
        (found,) = check_trigrams(model, [mined], random_texts(), EVERY, seed=0, n_contexts=12)
        assert found.contexts == 12
        # Alone in its text A gives C 10 over the mean of 10/12; where A stands twice, taking one away changes nothing
        assert 0 < found.effect.estimate <= 10 * (1 - 1 / 12) + 1e-4
        assert found.without_head == 0
        assert 0 < found.natural <= 12

    def test_one_source_alone_gives_the_whole_logit(self) -> None:
        model = planted((3, 5, 7))
        (mined,) = mine(model, 0, 0, EVERY, scales=PLAIN)
        texts = [text_of([0, 1, 2, 4, 6, 5])] * 3
        (found,) = check_trigrams(model, [mined], texts, EVERY, seed=0)
        assert found.effect.estimate == pytest.approx(10 * (1 - 1 / 12), abs=1e-4)
        assert (found.contexts, found.natural) == (3, 0)

    def test_without_any_context_there_is_no_effect(self) -> None:
        model = planted((3, 5, 7))
        (mined,) = mine(model, 0, 0, EVERY, scales=PLAIN)
        (found,) = check_trigrams(model, [mined], [text_of([0, 1, 2, 4])], EVERY, seed=0)
        assert found.contexts == 0
        assert found.effect.estimate != found.effect.estimate


class TestCrossings:
    def test_the_bug_is_found_and_acts(self) -> None:
        """Wanted: 3 .. 5 -> 7 and 3 .. 6 -> 8; one head must then raise 3 .. 5 -> 8 and 3 .. 6 -> 7 as well."""
        model = planted((3, 5, 7), (3, 6, 8))
        texts = tuple(text_of([0, 3, 1, 5, 7, 2, 6, 8, 4], index) for index in range(6))
        (found,) = crossings(model, 0, 0, EVERY, texts, scales=PLAIN)
        assert {(each.current, each.predicted) for each in found.wanted} == {(5, 7), (6, 8)}
        assert {(each.current, each.predicted) for each in found.unwanted} == {(5, 8), (6, 7)}
        assert found.seen == (6, 6)
        effects = check_trigrams(model, found.unwanted, texts, EVERY, seed=0)
        assert all(each.effect.low > 0 for each in effects)

    def test_pairs_that_the_texts_cross_themselves_are_no_bug(self) -> None:
        model = planted((3, 5, 7), (3, 6, 8))
        texts = tuple(text_of([0, 3, 5, 7, 6, 8, 5, 8, 6, 7], index) for index in range(6))
        assert crossings(model, 0, 0, EVERY, texts, scales=PLAIN) == ()


PLAN = Plan(top=4, per_source=2, least=5, contexts=6, null_models=1, crossings=2, seed=0)


def test_planted_model_in_full() -> None:
    model = planted((3, 5, 7), (4, 6, 8))
    model.to_str_tokens = lambda ids: [str(int(token)) for token in ids]
    found = study_trigrams(model, Texts(random_texts(), "random tokens"), PLAN)
    assert [each.trigram.source for each in found.effects] in ([3, 4], [4, 3])
    assert all(each.effect.low > 0 for each in found.effects)
    assert all(identity.holds for identity in found.identities)


def run(model, **options):
    options = {"model": "toy", "least": 1, "contexts": 4, "top": 3, "null_models": 1, "crossings": 2} | options
    return skip_trigrams.run(skip_trigrams.Config(**options), model)


class TestExperiment:
    @pytest.mark.parametrize("changes", [ATTENTION_ONLY, {"n_layers": 1}])
    def test_every_table_and_figure(self, changes) -> None:
        found = run(fold(reading_model(**changes)))
        tables = skip_trigrams.tables(found)
        assert list(tables) == ["heads", "skip_trigrams", "null", "crossings"]
        assert len(tables["skip_trigrams"].frame)
        assert all(to_csv(table) and to_markdown(table) for table in tables.values())
        assert set(skip_trigrams.figures(found)) == {"effects", "crossings_drawn"}
        assert all(identity.holds for identity in found.identities)
        assert found.hooks

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="post-norm"):
            run(reading_model(masked=True))
        with pytest.raises(ValueError, match="contexts=0"):
            skip_trigrams.Config(contexts=0)
        with pytest.raises(ValueError, match="least=900"):
            run(fold(reading_model(**ATTENTION_ONLY)), least=900)


def test_a_model_with_shuffled_weights_has_no_findings_and_the_trained_one_has() -> None:
    model = load_model("zoo-attn-1l", processing="folded")
    null = shuffled_weights(model, seed=9)
    null.provenance = model.provenance
    texts = circuit_texts(model, n=60, seed=0)
    plan = Plan(top=6, per_source=2, least=10, contexts=8, null_models=2, crossings=1, seed=0)
    assert int(study_trigrams(null, texts, plan).holds.sum()) <= 1
    assert int(study_trigrams(model, texts, plan).holds.sum()) >= 10
