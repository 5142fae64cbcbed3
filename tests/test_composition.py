"""The composition experiment: pairs that stand out in planted models and none in random ones, virtual heads, tables."""

import math

import pytest
import torch
from conftest import toy_model
from toy_text import reading_model

from experiments import composition as experiment
from lens_utils import figures
from lens_utils.circuits.composition import KINDS
from lens_utils.circuits.composition_study import score_pairs, virtual_heads
from lens_utils.hooked_transformer.processing import fold
from lens_utils.planted import BETA, induction_model, v_composition_model
from lens_utils.prompts import TokenizedText
from lens_utils.tables import to_csv, to_markdown

ATTENTION_ONLY = {"attn_only": True, "d_mlp": None, "act_fn": None}
V, N = 9, 17
TABLES = "kinds pairs virtual_heads score_sides score_sources"
REPEATED = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]


def text_of(tokens: list[int]) -> TokenizedText:
    strings = tuple(map(str, tokens))
    return TokenizedText(0, " ".join(strings), torch.tensor(tokens), strings, ("word",) * len(tokens))


def run(model, **options):
    options = {"model": "toy", "random_pairs": 50, "rotations": 10, "texts": 2} | options
    return experiment.run(experiment.Config(**options), model)


def test_planted_induction_stands_out_by_keys_alone() -> None:
    pairs, identity = score_pairs(induction_model(V, N).build(), n_random=200, n_rotations=100, seed=0)
    assert identity.holds
    assert pairs.stands_out.nonzero().tolist() == [[KINDS.index("K"), 0, 2]]
    assert pairs.low[1, 0, 2] < pairs.high[1, 0, 2] < pairs.scores[1, 0, 2]
    assert (pairs.z[:, 1, 2:] == 0).all()
    assert (pairs.q[:, 1, 2:] == 1).all(), "null heads are tested and never found"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_models_have_no_findings(seed: int) -> None:
    model = toy_model(d_model=64, d_head=8, n_heads=4, seed=seed, normalization_type=None, **ATTENTION_ONLY)
    pairs, identity = score_pairs(model, n_random=300, n_rotations=60, seed=0)
    assert identity.holds
    assert not pairs.stands_out.any()
    inside = (pairs.scores >= pairs.low) & (pairs.scores <= pairs.high)
    assert inside[:, :4, 4:].double().mean() > 0.85


def test_virtual_heads_of_the_planted_model() -> None:
    model = v_composition_model(V, N).build()
    tokens = [0, *([1, 2, 3] * 5)]  # the token two back is the next one
    found = virtual_heads(model, [text_of(tokens)])
    best = found[0]
    assert (best.sender, best.receiver) == ((0, 0), (1, 0))
    assert (best.distance, best.mass) == (2, pytest.approx(1))
    # Of 15 positions the first three look at the token 0, which comes no more; the others name the next token
    assert best.given.item() == pytest.approx(BETA * (12 / 15 - 1 / V), abs=1e-5)
    known = math.log1p((V - 1) * math.exp(-BETA))
    assert best.cost.item() == pytest.approx(math.log(V) - known - BETA * 3 / 15, abs=1e-5)
    assert all(float(each.cost) == pytest.approx(0, abs=1e-6) for each in found[1:])


class TestExperiment:
    @pytest.mark.parametrize("layers", [2, 3])
    def test_every_table_and_figure(self, layers: int) -> None:
        found = run(fold(reading_model(n_layers=layers, **ATTENTION_ONLY)))
        tables = experiment.tables(found)
        assert list(tables) == TABLES.split()
        assert len(tables["pairs"].frame) == 3 * 9 * layers * (layers - 1) // 2
        assert tables["pairs"].frame["score"].is_monotonic_decreasing
        assert len(tables["virtual_heads"].frame) == 9 * layers * (layers - 1) // 2
        assert all(to_csv(table) and to_markdown(table) for table in tables.values())
        drawn = experiment.figures(found)
        assert set(drawn) == {"graph", "pair_scores", "score_distribution", "virtual_cost", "sources"}
        names = {identity.name for identity in found.identities}
        assert names >= {"terms sum to the scores", "composition scores"}
        assert all(identity.holds and identity.tolerance <= 1e-4 for identity in found.identities)

    def test_models_with_an_mlp_have_scores_only_and_say_so(self) -> None:
        found = run(fold(reading_model()))
        tables = experiment.tables(found)
        assert list(tables) == ["kinds", "pairs"]
        assert "No virtual heads" in tables["kinds"].caption
        assert all(identity.holds for identity in found.identities)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({"masked": True}, "post-norm"),
            ({}, "processing='folded'"),
            ({"n_layers": 1, "normalization_type": None}, "1 layers"),
            ({"n_layers": 0, "normalization_type": None, **ATTENTION_ONLY}, "0 layers"),
        ],
    )
    def test_refusals(self, model, message) -> None:
        with pytest.raises(ValueError, match=message):
            run(reading_model(**model))
        with pytest.raises(ValueError, match="rotations=1"):
            experiment.Config(rotations=1)


class TestDrawing:
    def test_144_heads_fit_a_graph(self) -> None:
        nodes = [(f"L{i // 12}H{i % 12}", i % 12, float(i // 12)) for i in range(144)]
        edges = [
            figures.Edge(0, 143, "K-composition", 0.3, "<b>far</b>"),
            figures.Edge(5, 40, "V-composition", 0.1, "x"),
        ]
        layers = [f"layer {n}" for n in range(12)]
        made = figures.graph(nodes, edges, title="T", caption="C", y_labels=layers).figure
        assert len(made.data) == 3
        assert made.data[0].line.width > made.data[1].line.width
        assert made.data[0].text[0] == "&lt;b&gt;far&lt;/b&gt;"
        assert made.data[2].mode == "markers", "144 names would cover each other: they are shown on pointing"

    def test_a_graph_without_edges(self) -> None:
        made = figures.graph([("L0H0", 0, 0.0)], [], title="T", caption="C", y_labels=["layer 0"])
        assert len(made.figure.data) == 1

    def test_small_scatters_share_their_axes(self) -> None:
        panels = [("a", [0.0, 2.0], [0.0, -3.0]), ("b", [], []), ("<b>", [1.0], [1.0])]
        made = figures.small_scatters(panels, title="T", caption="C", x_title="re", y_title="im").figure
        assert made.layout.xaxis.range == made.layout.yaxis2.range
        assert made.layout.xaxis.range[1] == pytest.approx(3.24)
        assert made.layout.annotations[2].text == "&lt;b&gt;"
        with pytest.raises(ValueError, match="panels"):
            figures.small_scatters([], title="T", caption="C", x_title="", y_title="")
