"""Figures of the activation patching experiment: heatmaps of what is restored and what is lost, side by side."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import figures as draw
from lens_utils.figures import Figure
from lens_utils.pages import Choice, Fragment, Page, Text
from lens_utils.patching.cell_study import CellStudy
from lens_utils.patching.pooling import PooledKind
from lens_utils.patching_reports.cells import LEAST_PAIRS, NAMED, ROLES
from lens_utils.prompt_pairs import PromptPair

PAIRS_DRAWN = 8
UNITS_DRAWN = 16
"""Heads or neurons with a row of their own, where each has a row by position: the strongest."""
_MEANING = "0: no effect; 1: all of the clean-corrupted difference; below 0: against the answer."


def figures(study: CellStudy) -> dict[str, Figure | Page]:
    """Heads; positions by role; the first pairs token by token."""
    made: dict[str, Figure | Page] = {}
    heads = {name: (_units(study, each),) for name, each in study.pooled.items() if not each.kind.by_pos}
    places = {name: (_roles(study, each),) for name, each in study.pooled.items() if each.kind.by_pos}
    if heads:
        made["heads"] = Page((Choice("Patched", heads),), f"Whole heads, every position at once. {_MEANING}")
    if places:
        made["positions"] = Page(
            (Choice("Patched", places),), f"Positions, pooled by role over pairs. {_MEANING} {ROLES}"
        )
        made["prompts"] = _prompts(study)
    return made


def side_by_side(
    halves: Mapping[str, Float64[Tensor, "row column"]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    caption: str,
    x_title: str = "",
) -> Figure:
    """Matrices of one shape beside each other on one colour scale around 0, each under its name."""
    gap = torch.full((len(rows), 1), torch.nan, dtype=torch.float64)
    parts = [part for each in halves.values() for part in (gap, each)][1:]
    labels = [label for _ in halves for label in ("", *columns)][1:]
    drawn = draw.heatmap(
        torch.cat(parts, dim=1),
        x_labels=labels,
        y_labels=list(rows),
        title=title,
        caption=caption,
        diverging=True,
        colorbar="share",
        x_title=x_title,
    )
    for at, name in enumerate(halves):
        place = (at * (len(columns) + 1) + len(columns) / 2) / len(labels)
        drawn.figure.add_annotation(
            text=name, x=place, y=1, xref="paper", yref="paper", xanchor="center", yanchor="bottom", showarrow=False
        )
    drawn.figure.update_layout(margin={"t": 36})
    return drawn


def _named(study: CellStudy, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{NAMED[direction]} ({direction})": values[direction] for direction in study.directions}


def _units(study: CellStudy, pooled: PooledKind) -> Figure:
    """Layers by heads; of neurons, the strongest one below the other."""
    shares = {direction: found.share[..., 0] for direction, found in pooled.effects.items()}
    name, n = pooled.kind.name, len(study.pairs)
    caption = f"Mean over {n} pairs, one cell patched at a time."
    if pooled.kind.unit == "neuron":
        kept = _strongest(pooled)
        halves = {key: torch.stack([each[at] for at in kept])[:, None] for key, each in shares.items()}
        rows = [f"L{layer}N{unit}" for layer, unit in kept]
        return side_by_side(
            _named(study, halves), rows=rows, columns=["all positions"], title=f"{name}: strongest", caption=caption
        )
    n_layers, n_heads = shares[study.directions[0]].shape
    return side_by_side(
        _named(study, shares),
        rows=[f"L{layer}" for layer in range(n_layers)],
        columns=[f"H{head}" for head in range(n_heads)],
        title=f"{name} of each head",
        caption=caption,
    )


def _strongest(pooled: PooledKind) -> list[tuple[int, int]]:
    """(layer, unit) of the strongest heads or neurons, in the order of the model."""
    strength = pooled.strength.amax(-1)
    order = strength.flatten().argsort(descending=True, stable=True)[:UNITS_DRAWN].sort().values.tolist()
    return [divmod(at, strength.shape[1]) for at in order]


def _roles(study: CellStudy, pooled: PooledKind) -> Figure:
    """Layers, or the strongest heads, by role."""
    kept = [at for at, pairs in enumerate(pooled.pairs.tolist()) if pairs >= LEAST_PAIRS * len(study.pairs)]
    units = _strongest(pooled) if pooled.kind.unit else [(layer, 0) for layer in range(pooled.strength.shape[0])]
    mark = {"head": "H", "neuron": "N"}.get(pooled.kind.unit, "")
    halves = {
        direction: torch.stack([found.share[at][kept] for at in units]) for direction, found in pooled.effects.items()
    }
    some = f" The {len(units)} strongest." if pooled.kind.unit and pooled.strength[..., 0].numel() > len(units) else ""
    return side_by_side(
        _named(study, halves),
        rows=[f"L{layer}{mark}{unit}" if mark else f"L{layer}" for layer, unit in units],
        columns=[pooled.roles[at] for at in kept],
        title=f"{pooled.kind.name} by role of the position",
        caption=f"Mean over the pairs that have the role; roles of fewer than a quarter are left out.{some}",
    )


def _prompts(study: CellStudy) -> Page:
    options: dict[str, tuple[Fragment, ...]] = {}
    for row, pair in enumerate(study.pairs[:PAIRS_DRAWN]):
        answer, wrong = _answers(pair)
        about = (
            f"Clean {study.unpatched.clean[row]:.2f}, corrupted {study.unpatched.corrupted[row]:.2f} ({study.metric})."
        )
        texts = f"clean: {pair.clean.text}\ncorrupted: {pair.corrupted.text}"
        drawn = [_prompt(study, pooled, row, about) for pooled in study.pooled.values() if pooled.kind.by_pos]
        options[f"{row}: {answer}, not {wrong}"] = (Text(texts), *drawn)
    return Page((Choice("Pair", options),), f"The first pairs, token by token. {_MEANING}")


def _answers(pair: PromptPair) -> tuple[str, str]:
    """Both answers as text, where the prompts hold them; else as token numbers."""
    known = dict(zip(pair.clean.tokens.tolist(), pair.clean.strings, strict=True))
    known |= dict(zip(pair.corrupted.tokens.tolist(), pair.corrupted.strings, strict=True))
    named = [known.get(token, f"token {token}").strip() for token in (pair.answer, pair.wrong)]
    return named[0], named[1]


def _prompt(study: CellStudy, pooled: PooledKind, row: int, about: str) -> Figure:
    """One kind on one pair, as shares of that pair's own difference."""
    pair, kind = study.pairs[row], pooled.kind
    units = _strongest(pooled) if kind.unit else [(layer, 0) for layer in range(pooled.strength.shape[0])]
    halves = {}
    for direction in study.directions:
        effects = study.sweeps[kind.name, direction].effects[row][..., : len(pair.clean)]
        effects = effects if direction == "denoise" else 1 - effects
        halves[direction] = torch.stack([effects[at] if kind.unit else effects[at[0]] for at in units])
    mark = {"head": "H", "neuron": "N"}.get(kind.unit, "")
    return side_by_side(
        _named(study, halves),
        rows=[f"L{layer}{mark}{unit}" if mark else f"L{layer}" for layer, unit in units],
        columns=[token.strip() or token for token in pair.clean.strings],
        title=kind.name,
        caption=f"{about} Blank: no counterpart.",
    )
