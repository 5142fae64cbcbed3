"""Induction: exact on planted heads, nothing where there is nothing, one consistent story on the shipped model."""

import math

import pytest
import torch
from conftest import toy_model
from toy_text import reading_model

from experiments import induction as experiment
from lens_utils.circuits.texts import circuit_texts
from lens_utils.head_scores import score_heads
from lens_utils.hooked_transformer.processing import fold
from lens_utils.induction import attention, losses
from lens_utils.induction.losses import Repeat
from lens_utils.induction.routes import feeder, route
from lens_utils.induction.study import InductionStudy, Plan, study_induction
from lens_utils.interventions import fix_head, mean_outputs
from lens_utils.models import load_model
from lens_utils.null_models import shuffled_weights
from lens_utils.planted import BETA, induction_model
from lens_utils.prompts import TokenizedText, repeated_texts
from lens_utils.tables import to_csv, to_markdown

ATTENTION_ONLY = {"attn_only": True, "d_mlp": None, "act_fn": None}
V, N = 9, 17
KNOWN = math.log1p((V - 1) * math.exp(-BETA))
PLAN = Plan(repeats=8, length=24, early=4, late=20, half=3, shares=(0.25,), nulls=100, zero=False, seed=0)


def text_of(tokens: list[int]) -> TokenizedText:
    strings = tuple(map(str, tokens))
    return TokenizedText(0, " ".join(strings), torch.tensor(tokens), strings, ("word",) * len(tokens))


@pytest.fixture
def planted() -> Repeat:
    return Repeat.of(text_of([0, *range(1, 9), *range(1, 9)]))


class TestPlanted:
    def test_loss_by_copy(self, planted: Repeat) -> None:
        model = induction_model(V, N).build()
        found = losses.by_copy([planted], losses.text_losses(model, [planted.text]))
        wrong = math.log(V - 1 + math.exp(BETA))
        assert found[0, 0].tolist() == pytest.approx([wrong] * 8, abs=1e-4)
        assert found[0, 1].tolist() == pytest.approx([wrong] + [KNOWN] * 7, abs=1e-4)
        assert losses.copy_losses([planted], found)[0].tolist() == pytest.approx([wrong, KNOWN], abs=1e-4)

    @pytest.mark.parametrize("zero", [True, False])
    def test_ablating_the_previous_token_head_ends_it(self, planted: Repeat, zero: bool) -> None:
        model = induction_model(V, N).build()
        heads = range(1, model.cfg.n_heads)
        groups = [tuple((0, head) for head in heads)]
        found = attention.ablate_each(model, [planted], groups=groups, zero=zero)
        assert found.ablated == (*(((0, head),) for head in range(model.cfg.n_heads)), *groups)
        matching = found.matching[:, 0, 1, 0].tolist()
        assert matching == pytest.approx([0.0, *[1.0] * (len(matching) - 1)], abs=1e-6)
        assert found.loss[:, 0].tolist()[1:] == pytest.approx([KNOWN] * (len(matching) - 1), abs=1e-5)
        assert found.loss[0, 0] > math.log(V)
        assert score_heads(model, [planted.text], rules=("induction",)).score[0, 1, 0] == pytest.approx(1), (
            "no hook left"
        )

    def test_without_a_match_the_head_rests_on_the_first_token(self, planted: Repeat) -> None:
        found = attention.to_first_position(induction_model(V, N).build(), [planted])
        assert found[0, :, 1, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
        assert found[0, 1, 0, 0] == pytest.approx(0, abs=1e-6)


class TestRepeats:
    def test_changed_tokens(self) -> None:
        model = reading_model(**ATTENTION_ONLY)
        (text,) = repeated_texts(model, 1, longest=12, seed=0)
        exact = Repeat.of(text)
        found = losses.fuzzy(model, exact, 0.5, generator=torch.Generator().manual_seed(1))
        assert int(found.changed.sum()) == round(exact.length / 2)
        second = slice(exact.start + exact.length, None)
        differs = found.text.tokens != text.tokens
        assert differs[second].equal(found.changed)
        assert not differs[: second.start].any()
        special = set(model.tokenizer.all_special_ids)
        assert not special & set(found.text.tokens[second][found.changed].tolist())
        assert found.text.strings == tuple(model.to_str_tokens(found.text.tokens))
        again = losses.fuzzy(model, exact, 0.5, generator=torch.Generator().manual_seed(1))
        assert again.text.tokens.equal(found.text.tokens)

    def test_only_tokens_behind_an_unchanged_pair_are_foretold(self) -> None:
        changed = torch.tensor([False, False, True, False, False, False])
        repeat = Repeat(text_of(list(range(12))), changed)
        assert losses.foreseeable([repeat], 7).tolist() == [[False, True, False, False, True, True, False]]
        loss = torch.arange(14.0).double().view(1, 2, 7)
        assert losses.copy_losses([repeat], loss)[0].tolist() == [(1 + 4 + 5) / 3, (8 + 11 + 12) / 3]

    def test_losses_are_the_models_whatever_shares_a_batch(self) -> None:
        model = reading_model()
        texts = [text_of([1, 2, 3, 4, 5]), text_of([9, 8]), text_of([4, 4, 7, 6, 5, 3, 2])]
        for text, loss in zip(texts, losses.text_losses(model, texts), strict=True):
            alone = model(text.tokens.unsqueeze(0), "loss", loss_per_token=True)[0].double()
            torch.testing.assert_close(loss, alone.detach(), atol=1e-5, rtol=1e-5)

    def test_late_minus_early(self) -> None:
        rising = torch.arange(1.0, 31.0).double()
        assert losses.late_minus_early([rising, rising[:10]], early=5, late=20, half=2).tolist() == [15.0]
        assert losses.late_minus_early([rising[:10]], early=5, late=20, half=2).shape == (0,)


def test_a_fixed_head_puts_out_that_and_its_hook_is_gone_afterwards() -> None:
    model = toy_model()
    tokens = torch.randint(0, model.cfg.d_vocab, (2, 5), generator=torch.Generator().manual_seed(0))
    before = model(tokens)
    output = torch.arange(model.cfg.d_head).float()
    with model.hooks(fwd_hooks=[fix_head(0, 1, output)]):
        _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_z")
    z = cache["blocks.0.attn.hook_z"]
    assert (z[:, :, 1] == output).all()
    assert not (z[:, :, 0] == output).any()
    torch.testing.assert_close(model(tokens), before)


def test_mean_outputs_leave_padding_out() -> None:
    model = toy_model()
    texts = [text_of([1, 2, 3]), text_of([4, 5, 6, 7, 8])]
    found = mean_outputs(model, texts)
    rows = []
    for text in texts:
        _, cache = model.run_with_cache(text.tokens.unsqueeze(0), names_filter="blocks.1.attn.hook_z")
        rows.append(cache["blocks.1.attn.hook_z"][0])
    torch.testing.assert_close(found[1].float(), torch.cat(rows).mean(0).detach(), atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def trained() -> InductionStudy:
    model = load_model("zoo-attn-2l", processing="folded")
    return study_induction(model, circuit_texts(model, n=16, seed=0), PLAN)


class TestShipped:
    def test_previous_token_heads_feed_the_keys_of_induction_heads(self, trained: InductionStudy) -> None:
        assert len(trained.found) >= 5
        assert {layer for layer, _ in trained.found} == {1}
        labelled = {(layer, head) for layer, head in trained.ablations.ablated[-1]}
        assert len(labelled) > 1, "the last ablation is that of the previous-token heads"
        best = trained.found[0]
        source = trained.ablations.ablated[feeder(trained, best, "key")][0]
        assert source in labelled
        assert trained.heads.previous[source] > 0.8
        found = route(trained, source, best)
        assert found.k_z > 3
        assert found.key_share > 0.2

    def test_without_them_nothing_is_left(self, trained: InductionStudy) -> None:
        without = trained.ablations.matching[-1].mean(0)
        assert all(without[at] < trained.matching.mean(0)[at] / 3 for at in trained.found)
        second = float(trained.foretold[:, 1].mean())
        assert second < 1
        assert trained.ablations.loss[-1].mean() > 6 * second

    def test_repetition_is_used_and_survives_changes(self, trained: InductionStudy) -> None:
        assert (trained.foretold[:, 0] - trained.foretold[:, 1] > 5).all()
        assert trained.p_foretold < 0.05
        assert trained.fuzzy[0].loss.nanmean() < 2

    def test_it_forms_in_a_phase_change(self, trained: InductionStudy) -> None:
        best = [float(moment.matching.mean(0).max()) for moment in trained.formation]
        assert best[0] < 0.1
        assert best[-1] > 0.8
        assert trained.formation[-1].step is None
        previous = [float(moment.previous.mean(0).max()) for moment in trained.formation]
        rises = [next(i for i, value in enumerate(each) if value > 0.3) for each in (previous, best)]
        assert rises[0] <= rises[1], "the previous-token head comes first"

    @pytest.mark.parametrize("name", ["zoo-attn-1l", "shuffled"])
    def test_no_induction(self, name: str) -> None:
        model = load_model("zoo-attn-2l" if name == "shuffled" else name, processing="folded")
        model = shuffled_weights(model, seed=7) if name == "shuffled" else model
        found = study_induction(model, circuit_texts(model, n=4, seed=0), PLAN)
        assert found.found == []
        assert (found.foretold[:, 0] - found.foretold[:, 1]).mean() < 1
        assert found.formation == ()


class TestExperiment:
    @pytest.mark.parametrize(("layers", "changes"), [(1, ATTENTION_ONLY), (3, ATTENTION_ONLY), (2, {})])
    def test_every_table_and_figure(self, layers: int, changes: dict) -> None:
        options = {"repeats": 3, "length": 8, "texts": 2, "late": 12, "nulls": 10, "changed": (0.3,)}
        found = experiment.run(
            experiment.Config(model="toy", **options), fold(reading_model(n_layers=layers, **changes))
        )
        assert all(identity.holds for identity in found.identities)
        tables, drawn = experiment.tables(found), experiment.figures(found)
        later = ["routes", "ablations"] if layers > 1 else []
        assert list(tables) == ["heads", "model", "evidence", *later, "loss_by_position", "fuzzy"]
        assert all(to_csv(table) and to_markdown(table) for table in tables.values())
        feeds = ["what_feeds_them"] if layers > 1 else []
        assert list(drawn) == ["loss_by_position", "prefix_matching", *feeds, "fuzzy_repeats"]
        assert len(tables["heads"].frame) == 3 * layers
        assert not tables["heads"].frame["induction"].any()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"repeats": 1}, r"repeats=1: must be at least 2"),
            ({"length": 3}, r"length=3: must be at least 4"),
            ({"late": 10}, r"late=10: must be above early \(10\)"),
            ({"changed": (0.5, 1.0)}, r"changed=1\.0: choose shares between 0 and 1"),
        ],
    )
    def test_bad_options(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            experiment.Config(**options)
