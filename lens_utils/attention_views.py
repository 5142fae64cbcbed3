"""Attention patterns and token predictions as tables, pages and figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from einops import rearrange

from lens_utils import figures, pages
from lens_utils.figures import Figure
from lens_utils.pages import Fragment, Heading, Page, Text
from lens_utils.prompts import TokenizedText
from lens_utils.tables import TOKEN_UNIT, Column, Table
from lens_utils.token_predictions import TokenPredictions
from lens_utils.visible_text import running
from lens_utils.weighted_attention import WeightedAttention, share_on

DEFINITIONS = {
    "pattern": "The pattern A: each row sums to 1.",
    "value_norm_weighted": "A times the norm of the source's value, A_ij ||v_j|| (Elhage et al. 2021).",
    "norm_weighted": "What reaches the residual stream: ||A_ij f(x_j)||, f(x) = (x W_V + b_V) W_O (Kobayashi 2020).",
    "attention_times_value": "Attention times value, z = A v: a vector for each query; columns are d_head.",
}
"""What each view shows."""


@dataclass(frozen=True)
class ReadText:
    """One text as the model read it."""

    text: TokenizedText
    weighted: WeightedAttention
    predictions: TokenPredictions
    guesses: tuple[tuple[str, ...], ...]
    """`predictions.top_tokens` as text."""


def heads_table(read: Sequence[ReadText]) -> Table:
    """One row a text and head: how spread its attention is, where it goes, and what weighting changes."""
    share = "share of attention"
    columns = {
        "prompt": Column("Which prompt, from 0."),
        "layer": Column("Block, from 0."),
        "head": Column("Head of its block, from 0."),
        "entropy": Column("Mean entropy of a row of the pattern.", "nats"),
        "distance": Column("Mean distance from query back to key; negative means ahead.", "tokens"),
        "first": Column("Mean attention to the first position, from all others.", share),
        "first_norm_weighted": Column("The same share of the norm-weighted attention.", "share of weight"),
        "itself": Column("Mean attention of a position to itself.", share),
        "strongest": Column("Largest attention to another position than the first or itself.", share),
        "from_token": Column("Its query.", TOKEN_UNIT),
        "to_token": Column("Its key.", TOKEN_UNIT),
        "z_norm": Column("Mean norm of the head's z (attention times value)."),
    }
    rows = [row for each in read for row in _head_rows(each)]
    caption = "Heads by prompt: where attention goes, raw and norm-weighted."
    return Table(pd.DataFrame(rows, columns=pd.Index(list(columns))), columns, caption)


def _head_rows(read: ReadText) -> list[dict[str, object]]:
    pattern, n = read.weighted.pattern.float().cpu(), len(read.text)
    position = torch.arange(n, dtype=torch.float32)
    entropy = torch.special.entr(pattern).sum(-1).mean(-1)
    distance = (position - pattern @ position).mean(-1)
    first = pattern[..., 1:, 0].mean(-1)
    weighted = share_on(read.weighted.norm_weighted[..., 1:, :].float().cpu(), [0])
    itself = pattern.diagonal(dim1=-2, dim2=-1).mean(-1)
    other = pattern * (1 - torch.eye(n))
    other[..., 0] = 0
    best, place = other.flatten(-2).max(-1)
    z_norm = read.weighted.attention_times_value.float().norm(dim=-1).mean(-1)
    names, values = ("entropy", "distance", "first", "first_norm_weighted", "itself", "strongest", "z_norm"), (
        entropy, distance, first, weighted, itself, best, z_norm,
    )  # fmt: skip
    rows = []
    for layer in range(pattern.shape[0]):
        for head in range(pattern.shape[1]):
            query, key = divmod(int(place[layer, head]), n)
            tokens = {"from_token": read.text.strings[query], "to_token": read.text.strings[key]}
            numbers = {name: float(value[layer, head]) for name, value in zip(names, values, strict=True)}
            rows.append({"prompt": read.text.index, "layer": layer, "head": head, **numbers, **tokens})
    return rows


def tokens_table(read: Sequence[ReadText], *, masked: bool) -> Table:
    """One row a predicted token."""
    asked = "asked with the token masked" if masked else "from the tokens before it"
    columns = {
        "prompt": Column("Which prompt, from 0."),
        "pos": Column("Token position, from 0; special tokens count."),
        "token": Column("The token that stands there.", TOKEN_UNIT),
        "loss": Column(f"Minus log-probability of the token, {asked}.", "nats"),
        "log_prob": Column("Log-probability of the token.", "nats"),
        "rank": Column("Tokens that the model held more likely; 0 is best."),
        "best_guess": Column("The likeliest token.", TOKEN_UNIT),
        "best_prob": Column("Its probability.", "probability"),
    }
    rows = []
    for each in read:
        found = each.predictions
        for index, pos in enumerate(found.positions):
            log_prob = float(found.log_prob[index])
            rows.append(
                {
                    "prompt": each.text.index,
                    "pos": pos,
                    "token": each.text.strings[pos],
                    "loss": -log_prob,
                    "log_prob": log_prob,
                    "rank": int(found.rank[index]),
                    "best_guess": each.guesses[index][0],
                    "best_prob": float(found.top_log_probs[index, 0].exp()),
                }
            )
    caption = f"Every predicted token, {asked}."
    return Table(pd.DataFrame(rows, columns=pd.Index(list(columns))), columns, caption)


def attention_page(read: Sequence[ReadText], view: str, *, causal: bool) -> Page:
    """Every head of every layer on every prompt: thumbnails, the chosen head's matrix, and its text to hover."""
    fragments: list[Fragment] = []
    for each in read:
        weights = getattr(each.weighted, view)
        names = [f"L{layer}H{head}" for layer in range(weights.shape[0]) for head in range(weights.shape[1])]
        grid = pages.attention_grid(
            weights.flatten(0, 1),
            tokens=each.text.strings,
            names=names,
            caption="Rows are queries, columns keys. Choose a head; then hover over a token of the text below.",
            causal=causal,
        )
        fragments += [Heading(f"Prompt {each.text.index}"), Text(each.text.text), grid]
    return Page(tuple(fragments), DEFINITIONS[view])


def z_page(read: Sequence[ReadText]) -> Page:
    """Attention times value on the text: each coordinate of each head's z over the tokens, layer by layer."""
    fragments: list[Fragment] = []
    for each in read:
        fragments += [Heading(f"Prompt {each.text.index}"), Text(each.text.text)]
        for layer, z in enumerate(each.weighted.attention_times_value):
            props = {
                "tokens": running(each.text.strings),
                "activations": rearrange(z, "head query d_head -> query head d_head"),
                "firstDimensionName": "Head",
                "secondDimensionName": "Coordinate",
            }
            fragments.append(
                pages.circuitsvis("TextNeuronActivations", props, f"Layer {layer}: choose head and coordinate.")
            )
    return Page(tuple(fragments), DEFINITIONS["attention_times_value"])


def predictions_page(read: Sequence[ReadText], *, masked: bool) -> Page:
    """Tokens coloured by loss, and each token's likeliest alternatives on hover."""
    fragments: list[Fragment] = []
    for each in read:
        found = each.predictions
        tokens = running(each.text.strings[pos] for pos in found.positions)
        losses = pages.circuitsvis(
            "ColoredTokens",
            {"tokens": tokens, "values": (-found.log_prob), "minValue": 0.0},
            "Loss of each predicted token in nats: the stronger the colour, the more surprising.",
        )
        # The component leaves out its first token and shows predictions of those that follow
        likely = pages.circuitsvis(
            "TokenLogProbs",
            {
                "prompt": ["", *tokens],
                "topKLogProbs": found.top_log_probs,
                "topKTokens": [list(guesses) for guesses in each.guesses],
                "correctTokenRank": found.rank,
                "correctTokenLogProb": found.log_prob,
            },
            "Log-probability of each token; hover or click to see what the model held likeliest there.",
        )
        fragments += [Heading(f"Prompt {each.text.index}"), Text(each.text.text), losses, likely]
    how = "each token masked in turn (pseudo-log-probability)" if masked else "from the tokens before it"
    return Page(tuple(fragments), f"What the model says of each token, {how}.")


def heatmaps(read: ReadText) -> dict[str, Figure]:
    """Raw and norm-weighted attention side by side, and z, layer by layer, for the first prompt."""
    made = {}
    for layer in range(read.weighted.pattern.shape[0]):
        pairs = []
        for head in range(read.weighted.pattern.shape[1]):
            for view, label in (("pattern", "raw"), ("norm_weighted", "weighted")):
                cells = getattr(read.weighted, view)[layer, head]
                # One scale for both: the weighted map is shown as a share of its largest entry
                share = cells / cells.max().clamp(min=1e-12) if view != "pattern" else cells
                pairs.append((f"L{layer}H{head} {label}", share))
        made[f"raw_and_weighted_l{layer}"] = figures.small_heatmaps(
            pairs,
            title=f"Layer {layer}: attention raw and norm-weighted, side by side",
            caption="Rows are queries, columns keys. Weighted maps are shares of their own largest entry.",
            columns=4,
            colorbar="attention",
        )
        z = read.weighted.attention_times_value[layer]
        made[f"attention_times_value_l{layer}"] = figures.small_heatmaps(
            [(f"L{layer}H{head}", z[head]) for head in range(len(z))],
            title=f"Layer {layer}: attention times value (z)",
            caption=f"{DEFINITIONS['attention_times_value']} One colour scale, centred at 0.",
            columns=4,
            diverging=True,
            colorbar="z",
        )
    return made
