"""Figures of the induction experiment."""

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import figures as draw
from lens_utils.circuit_reports.induction import change
from lens_utils.circuit_reports.induction_columns import SECOND, interval, name, names
from lens_utils.figures import Figure
from lens_utils.induction.routes import route
from lens_utils.induction.study import InductionStudy
from lens_utils.pages import Fragment, Page

DRAWN_HEADS = 48
"""Bars of one chart, at most: the heads that match best."""


def figures(study: InductionStudy) -> dict[str, Figure | Page]:
    """Loss by position first, then heads, what feeds them, changed repeats, training."""
    made: dict[str, Figure | Page] = {"loss_by_position": _positions(study), "prefix_matching": _matching(study)}
    if study.ablations.ablated:
        made["what_feeds_them"] = _routes(study)
    made["fuzzy_repeats"] = _fuzzy(study)
    if study.formation:
        made["formation"] = _formation(study)
    return made


def _positions(study: InductionStudy) -> Figure:
    at = list(range(study.copy_losses.shape[2]))
    curves = {
        "first copy": study.copy_losses[:, 0].nanmean(0),
        "second copy": study.copy_losses[:, 1].nanmean(0),
        "second copy, shuffled weights": study.null_losses[:, 1].nanmean(0),
    }
    return draw.lines(
        {label: (at, loss) for label, loss in curves.items()},
        title="Loss by position in each copy",
        caption="Mean over texts; nothing foretells the second copy's first token.",
        x_title="token of the copy",
        y_title="loss (nats)",
    )


def _matching(study: InductionStudy) -> Figure:
    score = study.matching.mean(0).flatten()
    chosen = score.argsort(descending=True, stable=True)[:DRAWN_HEADS].sort().values.tolist()
    bars, errors = [], []
    for place in chosen:
        at = (place // study.n_heads, place % study.n_heads)
        found = interval(study.matching[(slice(None), *at)], study)
        star = " *" if at in study.found else ""
        bars.append((name(at) + star, found.estimate))
        errors.append((max(0.0, found.estimate - found.low), max(0.0, found.high - found.estimate)))
    return draw.bars(
        bars,
        errors=errors,
        title="Prefix matching of each head",
        caption="Attention to the token after the current one's earlier occurrence; * an induction head. "
        "95 % intervals over texts.",
        y_title="attention",
    )


def _routes(study: InductionStudy) -> Page:
    senders = [group[0] for group in study.ablations.ablated if len(group) == 1]
    receivers = [(layer, head) for layer in range(1, study.n_layers) for head in range(study.n_heads)]
    receivers = [at for at in study.found if at[0]] or receivers
    shape = (len(senders), len(receivers))
    found = {kind: torch.full(shape, torch.nan, dtype=torch.float64) for kind in ("key", "query", "change")}
    for row, sender in enumerate(senders):
        for column, receiver in enumerate(receivers):
            if sender[0] < receiver[0]:
                each = route(study, sender, receiver)
                found["key"][row, column], found["query"][row, column] = each.key_share, each.query_share
                found["change"][row, column] = change(study, row, receiver).mean()
    kinds = (
        ("change", "Ablation", "Change of prefix matching when the earlier head is ablated.", "attention"),
        ("key", "Key side", "Share of the scores' variance whose key is what the earlier head wrote.", "share"),
        ("query", "Query side", "The same for the query.", "share"),
    )
    drawn = [
        _matrix(found[kind], senders, receivers, title, caption, unit)
        for kind, title, caption, unit in kinds
        if not bool(found[kind].isnan().all())
    ]
    fragments: list[Fragment] = [*drawn]
    whom = "induction head (columns)" if study.found else "later head (columns)"
    return Page(tuple(fragments), f"What each {whom} gets from each earlier head (rows).")


def _matrix(
    values: Float64[Tensor, "sender receiver"],
    senders: list[tuple[int, int]],
    receivers: list[tuple[int, int]],
    title: str,
    caption: str,
    unit: str,
) -> Figure:
    return draw.heatmap(
        values,
        y_labels=[name(at) for at in senders],
        x_labels=[name(at) for at in receivers],
        title=title,
        caption=caption,
        diverging=True,
        x_title="later head",
        y_title="earlier head",
        colorbar=unit,
    )


def _fuzzy(study: InductionStudy) -> Figure:
    shares = [0.0, *(each.share for each in study.fuzzy)]
    losses = [study.foretold[:, 1], *(each.loss for each in study.fuzzy)]
    matching = [study.matching, *(each.matching for each in study.fuzzy)]
    heads = study.found[:5]
    scores = {name(at): [float(each[(slice(None), *at)].nanmean()) for each in matching] for at in heads}
    loss = {"loss on unchanged tokens": (shares, [float(each.nanmean()) for each in losses])}
    panels = [("loss (nats)", loss)]
    if heads:
        panels.insert(0, ("prefix matching", {label: (shares, values) for label, values in scores.items()}))
    return draw.stacked_lines(
        panels,
        title="Repeats that are not exact",
        caption="A share of the second copy's tokens replaced by random ones; measured on unchanged tokens.",
        x_title="share of tokens changed",
    )


def _formation(study: InductionStudy) -> Figure:
    moments = study.formation
    labels = ["final" if moment.step is None else str(moment.step) for moment in moments]
    at = list(range(len(moments)))
    best = study.found[0] if study.found else None
    heads = {
        "induction, best head": [float(each.matching.mean(0).max()) for each in moments],
        "previous token, best head": [float(each.previous.mean(0).max()) for each in moments],
    }
    composed = {}
    if best is not None:
        feeder = _previous(study)
        sender, receiver = (head[0] * study.n_heads + head[1] for head in (feeder, best))
        composed[f"K-composition, {names((feeder,))} to {names((best,))}"] = [
            float(each.k_composition[sender, receiver]) for each in moments
        ]
        if study.pairs is not None:
            composed["random heads"] = [float(study.pairs.baseline.mean())] * len(moments)
    losses = {"second copy": [float(each.loss.mean()) for each in moments]}
    panels = [("attention", heads), ("K-composition", composed), ("loss (nats)", losses)]
    return draw.stacked_lines(
        [(label, {key: (at, values) for key, values in each.items()}) for label, each in panels if each],
        title="Induction over training",
        caption=f"Stored states of the training; the loss is that on {SECOND}.",
        x_title="training step",
        x_labels=labels,
    )


def _previous(study: InductionStudy) -> tuple[int, int]:
    """The head of an earlier layer that attends most to the previous token."""
    assert study.found
    earlier = study.heads.previous[: max(1, study.found[0][0])]
    place = int(earlier.flatten().argmax())
    return place // study.n_heads, place % study.n_heads
