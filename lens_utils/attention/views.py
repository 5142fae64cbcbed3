"""The four views of attention: the pattern, and the three weighted definitions under names of their own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """How one definition is named and explained."""

    field: str
    """Where `WeightedAttention` holds its [query, key] map."""
    symbol: str
    """Short name for the panels of a grid."""
    meaning: str
    """One sentence for its page."""


VIEWS = {
    "pattern": View("pattern", "A", "The pattern A itself: how much each query attends to each key; rows sum to 1."),
    "value_norm_weighted": View(
        "value_norm_weighted",
        "A\u2016v\u2016",
        "Attention times the length of what is read: A_ij \u2016v_j\u2016, the info-weighted view of "
        "Elhage et al. 2021.",
    ),
    "norm_weighted": View(
        "norm_weighted",
        "\u2016Af(x)\u2016",
        "The length of what each source writes to the residual stream: \u2016A_ij f(x_j)\u2016 with "
        "f(x) = (x W_V + b_V) W_O (Kobayashi et al. 2020).",
    ),
    "attention_times_value": View(
        "along_z",
        "Av",
        "Attention times value, A V = z: a vector at each query. The map shows it source by source: what "
        "A_ij v_j adds to the length of z_i, so that a row sums to \u2016z_i\u2016; orange works against it.",
    ),
}
"""By the name that tables, pages and code use."""
