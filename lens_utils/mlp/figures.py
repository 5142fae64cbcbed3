"""Pictures of MLP activation statistics: histograms, heatmaps, norms, maps of tokens, ablation, text of neurons."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import figures, hook_names
from lens_utils.ablation import AblationCurve
from lens_utils.activation_statistics import ActivationStatistics
from lens_utils.figures import Figure
from lens_utils.mlp.study import LayerStudy
from lens_utils.neurons import strongest
from lens_utils.pages import Fragment, Heading, Page, circuitsvis
from lens_utils.projections import Map, PrincipalComponents
from lens_utils.prompts import TokenizedText

BINS = 80
SHOWN_NEURONS = 40
TAIL = 0.001
"""Histograms reach from this quantile to its mirror; the rest is counted in the end bins."""


def token_labels(text: TokenizedText) -> list[str]:
    """The tokens of a text as axis labels."""
    return list(text.strings)


def common_edges(statistics: Mapping[str, ActivationStatistics]) -> Float64[Tensor, " edge"]:
    """Bin edges shared by all quantities."""
    sketches = [each.sketched()[1] for each in statistics.values()]
    low = min(float(sketch.quantile(TAIL)[0]) for sketch in sketches)
    high = max(float(sketch.quantile(1 - TAIL)[0]) for sketch in sketches)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return torch.linspace(low, high, BINS + 1, dtype=torch.float64)


def histograms(statistics: Mapping[str, ActivationStatistics], layers: Mapping[str, int]) -> Page:
    """One histogram figure a layer, all on the same bins."""
    edges = common_edges(statistics)
    fragments: list[Fragment] = []
    for layer in sorted(set(layers.values())):
        series = {
            label: (each.sketched()[1].histogram(edges)[0], edges)
            for label, each in statistics.items()
            if layers[label] == layer
        }
        blocks = max(layers.values())
        title = f"Layer {layer}" if layer < blocks or len(set(layers.values())) == 1 else "After the last layer"
        caption = "Values beyond the ends (outermost 0.1 %) are counted in the end bins; counts on a logarithmic axis."
        fragments.append(
            figures.histogram(series, title=title, caption=caption, log_y=True, x_title="activation", y_title="values")
        )
    return Page(tuple(fragments), "How the activations are distributed, on common bins.")


def heatmaps(layers: Sequence[LayerStudy], text: TokenizedText) -> Page:
    """Tokens of the first text against the neurons, and the output dimensions, of largest norm."""
    fragments: list[Fragment] = []
    for study in layers:
        for name, values in ((hook_names.mlp_post, study.post), (hook_names.mlp_out, study.out)):
            shown = values[: len(text)].double()
            chosen = strongest(shown, SHOWN_NEURONS)
            what = "neuron" if name is hook_names.mlp_post else "dimension"
            fragments.append(
                figures.heatmap(
                    shown[:, chosen],
                    x_labels=[str(index) for index in chosen],
                    y_labels=token_labels(text),
                    title=name(study.layer),
                    caption=f"Signed; the {len(chosen)} {what}s of largest norm over the text, strongest first.",
                    diverging=True,
                    x_title=what,
                    colorbar="activation",
                )
            )
    return Page(tuple(fragments), "Activations token by token (first text).")


def norms(layers: Sequence[LayerStudy], text: TokenizedText) -> Page:
    """Norms of attn_out, mlp_out and the residual stream at each token of the first text."""
    fragments: list[Fragment] = []
    for study in layers:
        rows = study.norms[: len(text)]
        at = list(range(len(text)))
        series = {name: (at, rows[:, column]) for column, name in enumerate(("attn_out", "mlp_out", "resid_pre"))}
        title = f"Layer {study.layer}: attn_out against mlp_out"
        fragments.append(
            figures.lines(
                series,
                title=title,
                caption="L2 norm at each token.",
                x_labels=token_labels(text),
                y_title="norm",
            )
        )
    return Page(tuple(fragments), "How much attention and MLP write at each token (first text).")


def projections(
    components: Mapping[str, PrincipalComponents],
    maps: Mapping[str, Map],
    tokens: Sequence[str],
    classes: Sequence[str],
) -> Page:
    """Each token a point, coloured by word class: principal components, then t-SNE."""
    fragments: list[Fragment] = []
    for label, found in components.items():
        if found.scores.shape[1] >= 2:
            caption = f"The two leading components hold {float(found.shares[:2].sum()):.0%} of the variance."
            fragments.append(_points(f"{label}: PCA", found.scores[:, :2], tokens, classes, caption))
        if label in maps:
            caption = f"t-SNE, perplexity {maps[label].perplexity:.3g}: neighbours matter, distances and axes do not."
            fragments.append(_points(f"{label}: t-SNE", maps[label].points, tokens, classes, caption))
    if not fragments:
        fragments.append(Heading("Too few tokens for principal components or t-SNE."))
    return Page(tuple(fragments), "Tokens in the space of activations (first positions left out).")


def _points(title: str, points: Tensor, tokens: Sequence[str], classes: Sequence[str], caption: str) -> Figure:
    n = len(points)
    return figures.scatter(
        points[:, 0], points[:, 1], labels=list(tokens[:n]), groups=list(classes[:n]), title=title, caption=caption
    )


def ablation(curves: Sequence[AblationCurve]) -> Page:
    """Loss over the number of neurons ablated."""
    fragments: list[Fragment] = []
    for curve in curves:
        low, high = torch.quantile(curve.random, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        at = list(range(len(curve.sizes)))
        series = {
            "by activation norm": (at, curve.ranked),
            "random order, mean": (at, curve.random.mean(0)),
            "random order, 2.5 %": (at, low),
            "random order, 97.5 %": (at, high),
        }
        fragments.append(
            figures.lines(
                series,
                title=f"Layer {curve.layer}",
                caption="Neurons are fixed at their mean over the tokens.",
                x_labels=[str(size) for size in curve.sizes],
                x_title="neurons ablated",
                y_title="loss (nats a token)",
            )
        )
    if not fragments:
        fragments.append(Heading("No token of these texts can be predicted: there is no loss to draw."))
    return Page(tuple(fragments), "What the model loses when neurons are mean-ablated.")


def neuron_text(layers: Sequence[LayerStudy], text: TokenizedText) -> Page:
    """The text coloured by the activation of a neuron to be chosen among each layer's strongest."""
    chosen = [strongest(study.post[: len(text)], 20) for study in layers]
    values = [study.post[: len(text), picked] for study, picked in zip(layers, chosen, strict=True)]
    labels = [f"layer {study.layer}" for study in layers]
    ranks = [f"rank {rank + 1}" for rank in range(len(chosen[0]))]
    if len(layers) == 1:
        ranks = [f"neuron {neuron}" for neuron in chosen[0]]
    props = {
        "tokens": token_labels(text),
        "activations": torch.stack(values, dim=1),
        "firstDimensionName": "Layer",
        "secondDimensionName": "Neuron",
        "firstDimensionLabels": labels,
        "secondDimensionLabels": ranks,
    }
    named = "; ".join(
        f"layer {study.layer}: {', '.join(map(str, picked))}" for study, picked in zip(layers, chosen, strict=True)
    )
    caption = f"Neurons of largest norm over the text, strongest first ({named})."
    return Page((circuitsvis("TextNeuronActivations", props, caption),), "The text as the strongest neurons see it.")
