"""A made-up result with every kind of table, figure and fragment, for the tests of pages and of the browser."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lens_utils import figures, pages
from lens_utils.tables import Column, Table

HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "<svg/onload=document.title='run'>",
    "\"'`&amp;{{7*7}}%{x}",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600",
    "zero\u200bwidth\u202eturned",
    "bell\x07 null\x00 escape\x1b",
    " leading space\nnew line",
    "\ud800",
)
STORY = re.findall(
    r"[A-Za-z]+|[^A-Za-z ]", 'One day, Lucy asks Tom: "I am looking for a banana but I can\'t find it". Tom says:'
)


MODEL = {
    "name": "zoo-stories-1l",
    "source": "shipped",
    "location": "zoo/weights/zoo-stories-1l",
    "revision": None,
    "weights_sha256": "4f0c" * 16,
    "processing": "none",
    "special_tokens": {"bos": 0, "pad": 1},
}
HOLDS = {"name": "rows sum to one", "statement": "sum over keys of the pattern = 1", "error": 2.4e-7, "tolerance": 1e-5}
FAILS = {"name": HOSTILE[0], "statement": "parts + bias = logit, in nats", "error": 0.02, "tolerance": 1e-4}


def manifest() -> dict:
    """A manifest as a run writes it, one identity failing."""
    return {
        "experiment": "site_example",
        "summary": "What a page looks like with every kind of table and figure on it",
        "command": 'python -m experiments.site_example --model zoo-stories-1l --prompts "The cat\'s <hat> & more"',
        "config": {"model": "zoo-stories-1l", "prompts": list(HOSTILE)},
        "seed": 0,
        "model": MODEL,
        "hooks": ["a.first", "a.second"],
        "identities": [HOLDS | {"holds": True}, FAILS | {"holds": False}],
        "tables": {},
        "figures": {},
        "run": {"started": "2026-01-05T10:30:00+00:00", "seconds": {"run": 3.2}, "device": "cpu"},
    }


def tables() -> dict[str, Table]:
    """A short headline table, one of hostile tokens, and a long one."""
    rng = np.random.default_rng(0)
    heads = pd.DataFrame(
        {
            "head": [f"L0H{head}" for head in range(8)],
            "reads": ["the previous token", "the clause start", "commas", "itself"] * 2,
            "score": [0.91, 0.1, -0.25, 1e-9, np.nan, 12.5, 0.5, 3.0],
            "tokens": [9, 10, 100, 1, 2, 3, 4, 5],
        }
    )
    # pandas' text cannot hold the unpaired surrogate, the last one
    listed = list(HOSTILE[:-1])
    first = [index == 0 for index in range(len(listed))]
    words = pd.DataFrame({"word": listed, "logit": np.arange(len(listed)) / 7, "first": first})
    long = pd.DataFrame({"neuron": np.arange(900), "mean": rng.normal(size=900), "kurtosis": rng.gamma(2.0, size=900)})
    text, score = Column("Name of the head"), Column("Share of attention on the targets, above chance", "probability")
    return {
        "headline": Table(
            heads,
            {"head": text, "reads": Column("Where it looks"), "score": score, "tokens": Column("Rows scored")},
            "What each head reads, scored against chance.",
        ),
        "tokens": Table(
            words,
            {
                "word": Column("The token", "token"),
                "logit": Column("Its logit", "nats"),
                "first": Column("Is it first"),
            },
            "Tokens that try to be something else.",
        ),
        "neurons": Table(
            long,
            {"neuron": Column("Index"), "mean": Column("Mean activation"), "kurtosis": Column("Fourth moment")},
            "Every neuron of layer 0.",
        ),
    }


def patterns(heads: int, size: int) -> torch.Tensor:
    """Causal attention patterns that differ from head to head."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(heads, size, size, generator=generator)
    distance = torch.arange(size)[:, None] - torch.arange(size)[None, :]
    scores = scores - (distance - torch.arange(heads)[:, None, None] % 5).abs() * 0.8
    return scores.masked_fill(distance < 0, -torch.inf).softmax(-1)


def drawn() -> dict[str, figures.Figure | pages.Page]:
    """One figure of every kind, a page of attention, and one with every component on hostile tokens."""
    story, names = [f" {word}" for word in STORY], [f"L0H{head}" for head in range(8)]
    more = {"attention": attention_page(story, names), "hostile_tokens": hostile_page(), "chosen": chosen_page(names)}
    return measured(story) | scored(names) | more


def measured(story: list[str]) -> dict[str, figures.Figure]:
    """Histograms, heatmaps and quartiles."""
    rng = np.random.default_rng(0)
    counts, edges = np.histogram(rng.normal(size=20000), bins=60)
    wide, wide_edges = np.histogram(rng.normal(1, 2, size=20000), bins=60)
    activations = rng.normal(size=(12, len(story))) * (1 + (rng.random((12, len(story))) > 0.95) * 5)
    panels = [(name, pattern) for name, pattern in zip("abcdefgh", patterns(8, 24), strict=True)]
    return {
        "histograms": figures.histogram(
            {"pre-activations": (counts, edges), "after <b>GELU</b>": (wide, wide_edges)},
            title="Activations before and after the non-linearity",
            caption="Counts of activations on common bins; the first token is left out.",
            x_title="activation",
        ),
        "heatmap": figures.heatmap(
            activations,
            x_labels=story,
            y_labels=[f"neuron {index}" for index in range(12)],
            title="The busiest neurons on the prompt",
            caption="Activation of each neuron (rows) at each token (columns), in the units of the hook.",
            diverging=True,
            colorbar="activation",
        ),
        "quartiles": figures.box_from_quartiles(
            {"hook 1": (-3, -1, 0, 1, 4), "hook 2": (-2, -0.5, 0.5, 1, 9)},
            title="Quartiles of each hook",
            caption="Minimum, quartiles and maximum.",
        ),
        "grids": figures.small_heatmaps(
            panels,
            title="Attention patterns",
            caption="Rows are queries, columns keys; one colour scale for all heads.",
            colorbar="weight",
        ),
    }


def scored(names: list[str]) -> dict[str, figures.Figure]:
    """Bars, curves and points."""
    rng = np.random.default_rng(1)
    return {
        "hostile": figures.bars(
            [(token, index + 1.0) for index, token in enumerate(HOSTILE)],
            title="Tokens <b>as labels</b>",
            caption="One bar for each hostile token; each is shown as text.",
            y_title="logit (nats)",
        ),
        "scores": figures.bars(
            dict(zip(names, rng.random(8), strict=True)),
            errors=[(0.1, 0.05)] * 8,
            title="Previous-token score",
            caption="Score of each head with its 95 % interval.",
            y_title="score",
        ),
        "ablation": figures.lines(
            {"zero": (range(8), rng.random(8)), "mean": (range(8), rng.random(8))},
            title="Loss when heads are removed",
            caption="Loss in nats after ablating the first n heads.",
            x_labels=names,
            y_title="loss (nats)",
        ),
        "embedding": figures.scatter(
            rng.normal(size=60),
            rng.normal(size=60),
            labels=(list(HOSTILE) * 6),
            groups=["names", "verbs", "other"] * 20,
            title="Tokens in the plane of the first two components",
            caption="Each point is a token; hover to read it.",
        ),
    }


def chosen_page(names: list[str]) -> pages.Page:
    """A choice of heads, each with a heading and two figures, and one with nothing to choose from."""
    rng = np.random.default_rng(2)
    bars = [
        figures.bars(dict(zip(names, rng.random(8), strict=True)), title=name, caption=f"Reads of {name}.", y_title="a")
        for name in (*names[:3], HOSTILE[0], "one")
    ]
    options = {drawn.title: (pages.Heading(drawn.title), drawn) for drawn in bars[:-1]}
    return pages.Page((pages.Choice("Head", options), pages.Choice("Layer", {"0": (bars[-1],)})), "One head at a time.")


def attention_page(story: list[str], names: list[str]) -> pages.Page:
    """Headings, text, a grid of heads and coloured tokens."""
    tokens = pages.circuitsvis(
        "ColoredTokens", {"tokens": story, "values": np.linspace(-1, 1, len(story))}, "Loss of each token."
    )
    grid = pages.attention_grid(
        patterns(8, len(story)), tokens=story, names=names, caption="Choose a head to see its pattern."
    )
    return pages.Page(
        (pages.Heading("Heads"), pages.Text("Arrow keys move between heads."), grid, pages.Heading("Loss"), tokens),
        "Attention of every head on the Lucy prompt, and the loss of each token.",
    )


def hostile_page() -> pages.Page:
    """All nine CircuitsVis components on hostile tokens."""
    tokens, count = list(HOSTILE), len(HOSTILE)
    pattern = patterns(2, count)
    activations = np.random.default_rng(1).normal(size=(count, 2, 3))
    ranks = np.argsort(activations, axis=0)[:3].transpose(1, 2, 0)
    components = {
        "AttentionHeads": {"tokens": tokens, "attention": pattern, "attentionHeadNames": tokens[:2]},
        "AttentionPattern": {"tokens": tokens, "attention": pattern[0], "maskUpperTri": False},
        "AttentionPatterns": {"tokens": tokens, "attention": pattern},
        "ColoredTokens": {"tokens": tokens, "values": [float("nan"), *np.linspace(-1, 1, count - 1)]},
        "ColoredTokensMulti": {"tokens": tokens, "values": activations[:, 0], "labels": tokens[:3]},
        "TextNeuronActivations": {"tokens": tokens, "activations": activations, "firstDimensionLabels": tokens[:2]},
        "TokenLogProbs": {
            "prompt": tokens,
            "topKLogProbs": -np.ones((count - 1, 3)),
            "topKTokens": [tokens[:3]] * (count - 1),
            "correctTokenRank": list(range(count - 1)),
            "correctTokenLogProb": -np.ones(count - 1),
        },
        "TopkSamples": {
            "tokens": [[[tokens]]],
            "activations": [[[activations[:, 0, 0]]]],
            "zerothDimensionName": tokens[0],
            "firstDimensionName": tokens[1],
        },
        "TopkTokens": {
            "tokens": [tokens],
            "topkVals": [np.ones((2, 3, 3))],
            "topkIdxs": [ranks],
            "bottomkVals": [-np.ones((2, 3, 3))],
            "bottomkIdxs": [ranks],
            "firstDimensionName": tokens[0],
            "thirdDimensionName": tokens[1],
            "sampleLabels": tokens[:1],
        },
    }
    grid = pages.attention_grid(pattern, tokens=tokens, names=tokens[:2], caption=tokens[0], causal=False)
    shown = [pages.circuitsvis(name, props, f"{name}: {tokens[1]}") for name, props in components.items()]
    return pages.Page((pages.Heading(tokens[0]), pages.Text(tokens[8]), grid, *shown), tokens[0])


def write_site(root: Path) -> Path:
    """The whole example under `root`; returns the folder of its one result."""
    folder = root / "site_example" / "zoo-stories-1l"
    folder.mkdir(parents=True)
    made = manifest()
    drawings, written = drawn(), tables()
    made["figures"] = {name: {"file": f"{name}.html", "caption": item.caption} for name, item in drawings.items()}
    made["tables"] = {name: {"file": f"{name}.csv"} for name in written}
    text = json.dumps(made, ensure_ascii=True)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    pages.write_assets(root)
    pages.render_result(folder, manifest=made, tables=written, figures=drawings, summary=made["summary"])
    pages.render_index(root)
    return folder
