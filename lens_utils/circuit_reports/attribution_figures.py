"""Figures of direct logit attribution: bars, heads, source tokens of single prompts, depth."""

from collections.abc import Sequence

import torch

from lens_utils import figures as draw
from lens_utils.attribution import AttributionStudy, Contributions
from lens_utils.circuit_reports.attribution_tables import ALL_HEADS, TARGETS, groups, lens_values, role_values
from lens_utils.figures import Figure
from lens_utils.pages import Choice, Fragment, Page, Text
from lens_utils.visible_text import label

DRAWN_PROMPTS = 12
DRAWN_HEADS = 8
"""Heads in the figure of one prompt, at most: those that add or take most in it."""


def figures(study: AttributionStudy) -> dict[str, Figure | Page]:
    """Components, heads, source tokens, depth; neurons where there are any."""
    made: dict[str, Figure | Page] = {
        "components": _bars(
            study.components,
            range(len(study.components.names)),
            "Direct contribution of each component",
            f"To {TARGETS[study.target]}, mean over prompts; 95 % intervals over prompts.",
        ),
        "heads": _heads(study),
        "source_roles": _roles(study),
        "source_tokens": _prompts(study),
        "logit_lens": _lens(study),
    }
    if study.n_neurons:
        what = f"The {len(study.neurons.names)} largest of {study.n_neurons}; 95 % intervals over prompts."
        every = range(len(study.neurons.names))
        made["neurons"] = _bars(study.neurons, every, "Direct contribution of neurons", what)
    return made


def _bars(found: Contributions, chosen: Sequence[int], title: str, caption: str) -> Figure:
    intervals = [found.interval(part) for part in chosen]
    return draw.bars(
        [(found.names[part], each.estimate) for part, each in zip(chosen, intervals, strict=True)],
        errors=[(max(0.0, each.estimate - each.low), max(0.0, each.high - each.estimate)) for each in intervals],
        title=title,
        caption=caption,
        y_title="contribution (nats)",
    )


def _heads(study: AttributionStudy) -> Page:
    """All prompts, then each kind of prompt where there are several."""
    kinds = groups(study)
    fragments = [_head_map(study, "", list(range(len(study.questions))))]
    if len(kinds) > 1:
        fragments += [_head_map(study, f": {group}", prompts) for group, prompts in kinds.items()]
    return Page(tuple(fragments), "Which heads write the answer into the logits.")


def _head_map(study: AttributionStudy, kind: str, prompts: list[int]) -> Figure:
    layers, heads = study.shape
    return draw.heatmap(
        study.heads.values[prompts].mean(0).view(layers, heads),
        x_labels=[f"H{head}" for head in range(heads)],
        y_labels=[f"layer {layer}" for layer in range(layers)],
        title=f"Direct contribution of each head{kind}",
        caption=f"To {TARGETS[study.target]}, mean over {len(prompts)} prompts.",
        diverging=True,
        colorbar="nats",
        x_title="head",
        y_title="layer",
    )


def _roles(study: AttributionStudy) -> Figure:
    values = role_values(study)
    chosen = _strongest(study.heads.mean, 2 * DRAWN_HEADS)
    parts = torch.stack([each.mean(0) for each, _ in values.values()], dim=1)
    return draw.heatmap(
        torch.cat([parts.sum(0, keepdim=True), parts[chosen]]),
        x_labels=list(values),
        y_labels=[ALL_HEADS, *(study.heads.names[head] for head in chosen)],
        title="Where heads bring it from",
        caption="Contribution by the role of the token attended to, mean over prompts.",
        diverging=True,
        colorbar="nats",
        x_title="role of the source token",
        y_title="head",
    )


def _strongest(values: torch.Tensor, count: int) -> list[int]:
    return values.abs().argsort(descending=True, stable=True)[:count].tolist()


def _prompts(study: AttributionStudy) -> Page:
    options: dict[str, tuple[Fragment, ...]] = {}
    for index in range(min(DRAWN_PROMPTS, len(study.questions))):
        token = label(study.tokens[index][0], length=20)
        options[f"{index}: {token}"] = _prompt(study, index)
    shown = f"the first {len(options)} of {len(study.questions)} prompts"
    return Page((Choice("Prompt", options),), f"Which tokens the heads take the answer from, token by token; {shown}.")


def _prompt(study: AttributionStudy, index: int) -> tuple[Fragment, ...]:
    question, (token, wrong, first) = study.questions[index], study.tokens[index]
    parts = study.sources[index].parts.flatten(0, 1)
    chosen = _strongest(parts.sum(1), DRAWN_HEADS)
    asked = f"Asked for: {label(token)}" + (f" against {label(wrong)}" if wrong else "")
    total = float(study.components.values[index, 0])
    told = f"{asked}; {total:.3g} nats in all. The model's first choice: {label(first)}."
    drawn = draw.heatmap(
        torch.cat([parts.sum(0, keepdim=True), parts[chosen]]),
        x_labels=question.text.strings,
        y_labels=[ALL_HEADS, *(study.heads.names[head] for head in chosen)],
        title=f"Prompt {index}: what heads bring from each token",
        caption=f"To the logits at position {question.end}; the {len(chosen)} heads that add or take most here.",
        diverging=True,
        colorbar="nats",
        x_title="source token",
        y_title="head",
    )
    return Text(told), drawn


def _lens(study: AttributionStudy) -> Figure:
    depths = study.lenses[0].depths
    at = list(range(len(depths)))
    series = {
        "logit lens (scale of each depth)": (at, lens_values(study, "recomputed").mean(0)),
        "accumulated contributions (scale of the whole run)": (at, lens_values(study, "accumulated").mean(0)),
    }
    return draw.lines(
        series,
        title="The target over depth",
        caption=f"{TARGETS[study.target].capitalize()}, mean over prompts, read behind each part of the model.",
        x_labels=list(depths),
        x_title="behind",
        y_title="nats",
    )
