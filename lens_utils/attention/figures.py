"""Pages of attention heads and of predicted tokens, and grids of heatmaps."""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils import figures
from lens_utils.attention.study import TextStudy
from lens_utils.attention.views import VIEWS
from lens_utils.figures import Figure
from lens_utils.pages import Fragment, Heading, Page, Text, attention_grid, circuitsvis
from lens_utils.visible_text import running

PAIRS = ("pattern", "value_norm_weighted", "norm_weighted")
"""The definitions with one weight of 0 or more for each query and key: shown side by side."""


def attention_page(studies: Sequence[TextStudy], name: str, *, causal: bool) -> Page:
    """Every head of every layer on every prompt by one definition."""
    fragments: list[Fragment] = []
    for study in studies:
        weights = getattr(study.weighted, VIEWS[name].field)
        layers, heads = weights.shape[:2]
        each = [(layer, head) for layer in range(layers) for head in range(heads)]
        grid = attention_grid(
            weights.flatten(0, 1),
            tokens=study.text.strings,
            names=[f"L{layer}H{head}" for layer, head in each],
            groups=[f"Layer {layer}" for layer, _ in each] if layers > 1 else (),
            caption="Choose a head, then point at a token of the text below, or step through it with the arrow keys.",
            causal=causal,
            signed=name == "attention_times_value",
        )
        fragments += [*_prompt(study, studies), grid]
        if name == "attention_times_value":
            fragments.append(_norms(study))
    return Page(tuple(fragments), VIEWS[name].meaning)


def _prompt(study: TextStudy, studies: Sequence[TextStudy]) -> list[Fragment]:
    """What the prompt is; numbered where there are several."""
    heading: list[Fragment] = [Heading(f"Prompt {study.text.index}")] if len(studies) > 1 else []
    return [*heading, Text(study.text.text)]


def _norms(study: TextStudy) -> Figure:
    norms = study.weighted.z.double().norm(dim=-1)
    layers, heads = norms.shape[:2]
    return figures.heatmap(
        norms.flatten(0, 1),
        x_labels=study.text.strings,
        y_labels=[f"L{layer}H{head}" for layer in range(layers) for head in range(heads)],
        title="Length of z at every token",
        caption="\u2016z\u2016, attention times value, of each head (rows) at each query (columns).",
        colorbar="\u2016z\u2016",
    )


def side_by_side(studies: Sequence[TextStudy], layer: int, *, n_layers: int) -> Page:
    """Raw and weighted maps of one layer's heads next to each other, every prompt."""
    fragments: list[Fragment] = []
    for study in studies:
        visible = study.visible[layer]
        maps = [_seen(getattr(study.weighted, VIEWS[name].field)[layer], visible) for name in PAIRS]
        heads = len(maps[0])
        order = [(head, index) for head in range(heads) for index in range(len(PAIRS))]
        symbols = [VIEWS[name].symbol for name in PAIRS]
        drawn = figures.small_heatmaps(
            [(f"L{layer}H{head} {symbols[index]}", maps[index][head]) for head, index in order],
            title=_of_layer("Raw and weighted, side by side", layer, n_layers),
            caption=f"Rows are queries, columns keys. Each head three times: {', '.join(symbols)}; one colour scale "
            "for each, shared by all heads, so that a pale weighted map is a head that moves little.",
            columns=2 * len(PAIRS) if heads > 1 else len(PAIRS),
            scales=[symbols[index] for _, index in order],
            x_labels=study.text.strings,
            y_labels=study.text.strings,
            x_title="key",
            y_title="query",
        )
        fragments += [*_prompt(study, studies), drawn]
    return Page(tuple(fragments), _of_layer("Attention raw and weighted, head by head", layer, n_layers) + ".")


def z_page(studies: Sequence[TextStudy], layer: int, *, n_layers: int) -> Page:
    """Attention times value itself, [query, d_head], of one layer's heads, every prompt."""
    fragments: list[Fragment] = []
    for study in studies:
        drawn = figures.small_heatmaps(
            [(f"L{layer}H{head} z", each) for head, each in enumerate(study.weighted.z[layer])],
            title=_of_layer("Attention times value", layer, n_layers),
            caption="Rows are queries, columns the head's dimensions; one signed colour scale for all heads.",
            columns=4,
            diverging=True,
            colorbar="z",
            y_labels=study.text.strings,
            x_title="dimension",
            y_title="query",
        )
        fragments += [*_prompt(study, studies), drawn]
    return Page(tuple(fragments), _of_layer("The vectors z = A V", layer, n_layers) + ".")


def z_text(studies: Sequence[TextStudy]) -> Page:
    """Each coordinate of each head's z over the text, layer by layer, every prompt."""
    fragments: list[Fragment] = []
    for study in studies:
        fragments += _prompt(study, studies)
        for layer, z in enumerate(study.weighted.z):
            props = {
                "tokens": running(study.text.strings),
                "activations": rearrange(z, "head query d_head -> query head d_head"),
                "firstDimensionName": "Head",
                "secondDimensionName": "Coordinate",
            }
            where = f"Layer {layer}: choose" if len(study.weighted.z) > 1 else "Choose"
            fragments.append(circuitsvis("TextNeuronActivations", props, f"{where} a head and a coordinate of its z."))
    return Page(tuple(fragments), "The vectors z = A V on the text: one coordinate of one head at every token.")


def _of_layer(words: str, layer: int, n_layers: int) -> str:
    return f"{words}, layer {layer}" if n_layers > 1 else words


def _seen(maps: Float[Tensor, "head query key"], visible: Bool[Tensor, "query key"]) -> Float[Tensor, "head query key"]:
    """The maps with what a query cannot see left blank (nan)."""
    return maps.double().masked_fill(~visible, torch.nan)


def tokens_page(studies: Sequence[TextStudy], *, masked: bool) -> Page:
    """Tokens coloured by loss, then by log-probability with the likeliest alternatives on hover."""
    fragments = [part for study in studies for part in (*_prompt(study, studies), *_token_views(study))]
    how = "asked for with the token masked (pseudo-log-probability)" if masked else "from the tokens before it"
    return Page(tuple(fragments), f"How well each token is predicted, {how}.")


def _token_views(study: TextStudy) -> Iterator[Fragment]:
    found = study.predictions
    if not found.positions:
        yield Text("No token of this prompt is predicted: it has only one, or only special ones.")
        return
    loss = torch.full((len(study.text),), torch.nan, dtype=torch.float64)
    loss[list(found.positions)] = -found.log_prob.double()
    strings = running(study.text.strings)
    yield circuitsvis(
        "ColoredTokens",
        {"tokens": strings, "values": loss, "minValue": 0.0, "maxValue": float(loss.nan_to_num().max()) or 1.0},
        "Loss of each token in nats: the stronger the colour, the more surprising. Point at a token for its number.",
    )
    # The component leaves its first token out: what is predicted stands behind an empty one
    likely = {
        "prompt": [
            strings[found.positions[0] - 1] if found.positions[0] else "",
            *(strings[p] for p in found.positions),
        ],
        "topKLogProbs": found.top_log_probs,
        "topKTokens": [list(row) for row in study.guesses],
        "correctTokenRank": found.rank,
        "correctTokenLogProb": found.log_prob,
    }
    yield circuitsvis(
        "TokenLogProbs",
        likely,
        "Log-probability of each token: red is likely, without colour at -5 nats or less. Point at a token for its "
        "rank and what the model held likeliest there.",
    )
