"""Pictures of the ablation experiment."""

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import figures as draw
from lens_utils.ablation_study.costs import Costs
from lens_utils.ablation_study.neuron_groups import RANKINGS, NeuronGroups
from lens_utils.ablation_study.replacements import NULL
from lens_utils.ablation_study.study import AblationStudy, SubjectStudy
from lens_utils.figures import Figure
from lens_utils.pages import Choice, Fragment, Page

TASK, TEXTS = "logit difference lost (nats)", "rise of the loss (nats a token)"


def figures(study: AblationStudy) -> dict[str, Figure | Page]:
    """Every part on both measures, one against the other, neuron groups, pairs of heads, self-repair."""
    made: dict[str, Figure | Page] = {
        "lost_on_task": _lost(study, study.task, TASK, "What the task loses without each part."),
        "lost_on_texts": _lost(study, study.texts, TEXTS, "What the loss on texts gains without each part."),
        "task_and_texts": _both(study),
    }
    if study.task.groups:
        made["neuron_groups"] = _neuron_groups(study)
    return made | {"pairs_of_heads": _pairs(study), "self_repair": _repair(study)}


def _lost(study: AblationStudy, subject: SubjectStudy, label: str, about: str) -> Page:
    """Heads as a grid for each way to take them out, then every part as a bar."""
    panels = [(kind, _grid(study, costs[0].mean)) for kind, costs in subject.costs.items()]
    grid = draw.small_heatmaps(
        panels,
        title="Heads",
        caption=f"Rows: blocks; columns: heads; {label}. '{NULL}' is the null: as far as to the mean, anywhere.",
        columns=3,
        diverging=True,
        colorbar="lost",
        x_labels=[f"head {head}" for head in range(study.n_heads)],
        y_labels=[f"block {layer}" for layer in range(study.n_layers)],
    )
    options: dict[str, tuple[Fragment, ...]] = {
        kind: (_bars(study, subject.costs[kind][0], kind, label),) for kind in _mean_first(subject)
    }
    return Page((Choice("Taken out by", options), grid), about)


def _mean_first(subject: SubjectStudy) -> list[str]:
    return sorted(subject.costs, key=lambda kind: kind != "mean")


def _grid(study: AblationStudy, values: Float64[Tensor, " part"]) -> Float64[Tensor, "layer head"]:
    return values[: study.n_layers * study.n_heads].view(study.n_layers, study.n_heads)


def _bars(study: AblationStudy, costs: Costs, kind: str, label: str) -> Figure:
    found = list(zip(costs.mean.tolist(), costs.low.tolist(), costs.high.tolist(), strict=True))
    return draw.bars(
        [(part.name, mean) for part, (mean, _, _) in zip(study.parts, found, strict=True)],
        errors=[(max(0.0, mean - low), max(0.0, high - mean)) for mean, low, high in found],
        title=f"Every part: {kind}",
        caption="95 % intervals over prompts; above 0 the part helps.",
        y_title=label,
    )


def _both(study: AblationStudy) -> Figure:
    return draw.scatter(
        study.texts.costs["mean"][0].mean,
        study.task.costs["mean"][0].mean,
        labels=[part.name for part in study.parts],
        groups=[part.kind for part in study.parts],
        title="The task against text in general",
        caption="Each part at its mean. Up: what the task needs; right: what the prediction of any text needs.",
        x_title=TEXTS,
        y_title=TASK,
    )


def _neuron_groups(study: AblationStudy) -> Page:
    options: dict[str, tuple[Fragment, ...]] = {}
    for kind in [kind for kind in _mean_first(study.task) if kind != NULL]:
        drawn: list[Fragment] = []
        for subject, label in ((study.task, TASK), (study.texts, TEXTS)):
            drawn += [_curve(groups, kind, label) for groups in subject.groups if (RANKINGS[0], kind) in groups.ranked]
        options[kind] = tuple(drawn)
    return Page((Choice("Taken out by", options),), "Growing groups of neurons, the strongest first.")


def _curve(groups: NeuronGroups, kind: str, label: str) -> Figure:
    at = list(range(len(groups.sizes)))
    series = {f"by {name}": (at, groups.ranked[name, kind][0].mean(1)) for name in RANKINGS}
    if kind == "mean":
        low, high = torch.quantile(groups.random[0], torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        series |= {"random, mean": (at, groups.random[0].mean(0))}
        series |= {"random, 2.5 %": (at, low), "random, 97.5 %": (at, high)}
    return draw.lines(
        series,
        title=f"Block {groups.layer}: {label.partition(' (')[0]}",
        caption=f"Neurons taken out ({kind}); groups in random orders are the null of the mean.",
        x_labels=[str(size) for size in groups.sizes],
        x_title="neurons taken out",
        y_title=label,
    )


def _pairs(study: AblationStudy) -> Page:
    found = study.interactions
    names = [head.name for head in found.heads]
    cells = torch.full((len(names), len(names)), torch.nan, dtype=torch.float64)
    mean = found.interaction.mean(1)
    for (first, second), value in zip(found.chosen, mean.tolist(), strict=True):
        cells[first, second] = cells[second, first] = value
    kept = sorted({index for pair in found.chosen for index in pair}) or list(range(len(names)))
    shown = [names[index] for index in kept]
    heat = draw.heatmap(
        cells[kept][:, kept],
        x_labels=shown,
        y_labels=shown,
        title="Interaction",
        caption="Joint cost minus both single costs (nats). Positive: backup; negative: one path.",
        diverging=True,
        colorbar="interaction",
    )
    alone = found.alone.mean(1)
    dots = draw.scatter(
        [float(alone[first] + alone[second]) for first, second in found.chosen],
        found.joint.mean(1),
        labels=[f"{names[first]}, {names[second]}" for first, second in found.chosen],
        title="Together against alone",
        caption="Each dot a pair; where the two costs are equal, the heads do not interact.",
        x_title="sum of the single costs (nats)",
        y_title="joint cost (nats)",
    )
    return Page((heat, dots), f"Pairs of heads taken out together ({study.options.together}).")


def _repair(study: AblationStudy) -> Page:
    found = study.repair
    names = [head.name for head in found.heads]
    dots = draw.scatter(
        found.own.mean(1),
        found.lost.mean(1),
        labels=names,
        groups=[f"block {head.layer}" for head in found.heads],
        title="What is lost against what was the head's own",
        caption="Equal: nothing is made up. Lower: others make up for the head. Higher: the head works through others.",
        x_title="own direct effect (nats)",
        y_title="logit difference lost (nats)",
    )
    top, bottom = max(found.reader_layers), min(head.layer for head in found.heads)
    rows = [at for at, head in enumerate(found.heads) if head.layer < top or found.n_heads < len(found.readers)]
    columns = [at for at, layer in enumerate(found.reader_layers) if layer > bottom or at >= found.n_heads]
    if not rows or not columns:
        return Page((dots,), "One layer of attention alone: nothing behind a head can make up for it but LayerNorm.")
    heat = draw.heatmap(
        found.changes.mean(2)[rows][:, columns],
        x_labels=[found.readers[at] for at in columns],
        y_labels=[names[at] for at in rows],
        title="Change of direct effects",
        caption="Row: head taken out; column: part; rise of its direct effect on the logit difference (nats).",
        diverging=True,
        x_title="part",
        y_title="head taken out",
        colorbar="rise",
    )
    return Page((dots, heat), f"Who makes up for a head ({study.options.together} ablation).")
