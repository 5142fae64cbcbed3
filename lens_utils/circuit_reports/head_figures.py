"""Figures of QK and OV circuits: copying, eigenvalues, matrices among words, distances, paths."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import figures as draw
from lens_utils.circuits.path_study import ScoreSources
from lens_utils.circuits.qk_ov_study import HeadTokens, QkOvStudy
from lens_utils.figures import Figure
from lens_utils.pages import Choice, Fragment, Page

DRAWN_SOURCES = 20
"""Sources of scores in one matrix, at most."""


def figures(study: QkOvStudy) -> dict[str, Figure | Page]:
    """One page a question."""
    made: dict[str, Figure | Page] = {
        "copying": _copying(study),
        "eigenvalues": _eigenvalues(study),
        "words": _words(study),
    }
    if study.offsets:
        made["distances"] = _distances(study)
    if study.paths is not None:
        made |= {"paths": _paths(study), "sources": sources_page(study.sources)}
    return made


def _copying(study: QkOvStudy) -> Page:
    copying = study.copying
    layers, heads = [f"layer {n}" for n in range(study.n_layers)], [f"H{n}" for n in range(study.n_heads)]
    meanings = {
        "eigenvalue_score": ("Eigenvalue score", "1 copies, -1 writes against the token, 0 neither.", True),
        "own_top5": ("Own token among the top 5", "Share of tokens; blank cells are undefined.", False),
        "own_rank": ("Own token above chance", "0.5 minus its mean rank: 0.5 always on top, -0.5 at the bottom.", True),
        "text_logit": ("Logit given to the token attended to", "On text, over the mean logit (nats).", True),
    }
    fragments: list[Fragment] = [_histogram(study)]
    for name, (title, caption, signed) in meanings.items():
        values = copying.values[name].view(study.n_layers, study.n_heads)
        values = 0.5 - values if name == "own_rank" else values
        fragments.append(
            draw.heatmap(values, x_labels=heads, y_labels=layers, title=title, caption=caption, diverging=signed)
        )
    return Page(tuple(fragments), "Does each head copy? Four notions side by side, and the null of random heads.")


def _histogram(study: QkOvStudy) -> Figure:
    values = study.copying.weights.notions["eigenvalue_score"]
    found, null = values[~values.isnan()], study.copying.weights.null["eigenvalue_score"]
    edges = torch.linspace(-1, 1, 21, dtype=torch.float64)
    series = {"heads": _shares(found, edges), "random heads": _shares(null[~null.isnan()], edges)}
    return draw.histogram(
        {name: (counts, edges) for name, counts in series.items()},
        title="Heads by eigenvalue score",
        caption=f"Share of the {len(found)} heads with a defined score, and of random heads.",
        x_title="eigenvalue score",
        y_title="share of heads",
    )


def _shares(values: Float64[Tensor, " head"], edges: Float64[Tensor, " edge"]) -> Float64[Tensor, " bin"]:
    counts = torch.histogram(values.clamp(-1, 1), edges).hist
    return counts / max(1, len(values))


def _eigenvalues(study: QkOvStudy) -> Page:
    options: dict[str, tuple[Fragment, ...]] = {}
    values = study.copying.weights.eigenvalues.view(study.n_layers, study.n_heads, -1)
    for layer in range(study.n_layers):
        kept = [each[each.abs() > 0] for each in values[layer]]
        panels = [(f"L{layer}H{head}", each.real, each.imag) for head, each in enumerate(kept)]
        caption = (
            "Logits by which an eigenvector's tokens raise each other: right of 0 they copy. Same axes for all heads."
        )
        drawn = draw.small_scatters(
            panels, title=f"Layer {layer}", caption=caption, x_title="real part", y_title="imaginary part"
        )
        options[str(layer)] = (drawn,)
    return Page((Choice("Layer", options),), "Eigenvalues of W_E W_V W_O W_U in the complex plane, zero ones left out.")


def _words(study: QkOvStudy) -> Page:
    names = [study.strings[word] for word in study.words]
    options = {f"L{each.layer}H{each.head}": _matrices(each, names) for each in study.heads}
    return Page((Choice("Head", options),), "Circuits among some words, every head on its own colour scale.")


def _matrices(each: HeadTokens, names: list[str]) -> tuple[Figure, ...]:
    shown = {"diverging": True, "x_labels": names, "y_labels": names}
    label = f"L{each.layer}H{each.head}"
    qk = draw.heatmap(
        each.qk_matrix,
        title=f"{label}: QK",
        caption="Score of the query (row) with the key (column), above the query's mean over all keys (nats).",
        x_title="key",
        y_title="query",
        colorbar="score",
        **shown,
    )
    ov = draw.heatmap(
        each.ov_matrix,
        title=f"{label}: OV",
        caption="Logit of the token (column) when all attention is on the source (row), above the mean (nats).",
        x_title="token",
        y_title="source",
        colorbar="logit",
        **shown,
    )
    return qk, ov


def _distances(study: QkOvStudy) -> Page:
    options: dict[str, tuple[Fragment, ...]] = {}
    for layer, found in enumerate(study.offsets):
        heads = [f"L{layer}H{head}" for head in range(study.n_heads)]
        distances = [str(n) for n in range(found.scores.shape[1])]
        kinds = (
            (found.scores, "score between positions", "Above the mean of the row (nats).", True),
            (found.by_position, "attention by position alone", "Softmax of those scores.", False),
            (found.on_text, "attention on text", "Mean over the queries that have such a key.", False),
        )
        options[str(layer)] = tuple(
            draw.heatmap(
                values,
                x_labels=distances,
                y_labels=heads,
                title=f"Layer {layer}: {what}",
                caption=caption,
                diverging=signed,
                x_title="positions back",
                y_title="head",
            )
            for values, what, caption, signed in kinds
        )
    return Page((Choice("Layer", options),), "Which distances each head prefers, 0 being the query itself.")


def _paths(study: QkOvStudy) -> Page:
    assert study.paths is not None
    paths = study.paths
    given, cost = paths.given.mean(0), paths.cost.mean(0)
    fragments: list[Fragment] = [
        draw.bars(list(zip(paths.terms, values.tolist(), strict=True)), title=title, caption=caption, y_title=y_title)
        for values, title, caption, y_title in (
            (given, "What each path gives the next token", "Over the mean logit, mean over positions.", "logit (nats)"),
            (cost, "What its removal costs", "Rise of the loss when it is taken out of the logits.", "loss (nats)"),
        )
    ]
    losses = paths.losses.mean(0)
    at = list(range(len(losses)))
    fragments.append(
        draw.lines(
            {"loss": (at, losses)},
            title="Loss with short paths only",
            caption="Paths through at most so many heads, and biases; patterns and LayerNorm scales frozen.",
            x_labels=[str(n) for n in at],
            x_title="heads on the path",
            y_title="loss (nats a token)",
        )
    )
    return Page(tuple(fragments), "The logits as a sum over paths.")


def sources_page(sources: Sequence[ScoreSources]) -> Page:
    """A matrix of shares for the chosen head, of the sources that matter most to it."""
    options: dict[str, tuple[Fragment, ...]] = {}
    for each in sources:
        weight = each.shares.abs().nan_to_num().sum(0) + each.shares.abs().nan_to_num().sum(1)
        kept = weight.argsort(descending=True, stable=True)[:DRAWN_SOURCES].sort().values
        names = [each.sources[index] for index in kept.tolist()]
        some = "" if len(names) == len(each.sources) else f" The {len(names)} largest of {len(each.sources)} sources."
        drawn = draw.heatmap(
            each.shares[kept][:, kept],
            x_labels=names,
            y_labels=names,
            title=f"L{each.layer}H{each.head}",
            caption=f"Share of the variance of its scores over the keys of a row; all sum to 1.{some}",
            diverging=True,
            x_title="key side",
            y_title="query side",
            colorbar="share",
        )
        options[drawn.title] = (drawn,)
    return Page((Choice("Head", options),), "Where attention scores come from: what queries and keys read.")


Head = tuple[int, int]


def pair_matrices(values: Mapping[tuple[Head, Head], float], n_heads: int, title: str, caption: str) -> Page:
    """A matrix for the chosen two layers, earlier heads (rows) by later ones (columns); pairs not given are blank."""
    options: dict[str, tuple[Fragment, ...]] = {}
    for early, late in sorted({(sender[0], receiver[0]) for sender, receiver in values}):
        cells = torch.full((n_heads, n_heads), torch.nan, dtype=torch.float64)
        for (sender, receiver), value in values.items():
            if (sender[0], receiver[0]) == (early, late):
                cells[sender[1], receiver[1]] = value
        drawn = draw.heatmap(
            cells,
            y_labels=[f"L{early}H{head}" for head in range(n_heads)],
            x_labels=[f"L{late}H{head}" for head in range(n_heads)],
            title=f"Layer {early} through layer {late}",
            caption=caption,
            diverging=True,
            x_title="receiver",
            y_title="sender",
            colorbar="nats",
        )
        options[f"{early} to {late}"] = (drawn,)
    return Page((Choice("Layers", options),), title)
