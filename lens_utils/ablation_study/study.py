"""Everything the ablation experiment measures on one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.ablation import LossInput, loss_input
from lens_utils.ablation_study import parts, replacements
from lens_utils.ablation_study.costs import Costs, judge
from lens_utils.ablation_study.direct_effects import Directions, directions
from lens_utils.ablation_study.engine import clean_run
from lens_utils.ablation_study.identities import ablation_identities
from lens_utils.ablation_study.interactions import Interactions, interactions
from lens_utils.ablation_study.neuron_groups import NeuronGroups, neuron_groups, random_orders, rankings
from lens_utils.ablation_study.parts import Part
from lens_utils.ablation_study.replacements import KINDS, NULL, Replacement
from lens_utils.ablation_study.self_repair import SelfRepair, self_repair
from lens_utils.ablation_study.subjects import Subject, Task, Texts, lost
from lens_utils.activations import pad
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.interventions import mean_activations
from lens_utils.progress import track
from lens_utils.prompt_pairs import PromptPair
from lens_utils.prompts import TokenizedText

Draws = tuple[Replacement, ...]


@dataclass(frozen=True)
class Options:
    """How the study is done."""

    draws: int
    """Draws of `resample` and of the null."""
    together: str
    """Replacement, of `KINDS`, for pairs of heads and self-repair."""
    limit: int
    """Pairs of heads, at most."""
    random_orders: int
    """Random orders of neurons."""
    seed: int


@dataclass(frozen=True)
class SubjectStudy:
    """Costs of every part on the prompts of one subject."""

    whole: Float64[Tensor, "measure unit"]
    """The unablated model."""
    costs: Mapping[str, tuple[Costs, ...]]
    """By kind of replacement, the null last: of each measure, one cost a part."""
    groups: tuple[NeuronGroups, ...]
    """Of each block with an MLP."""


@dataclass(frozen=True)
class AblationStudy:
    """Everything the tables and figures show."""

    parts: tuple[Part, ...]
    task: SubjectStudy
    texts: SubjectStudy
    interactions: Interactions
    repair: SelfRepair
    missing: float
    """Share of the prompts' positions for which resampling finds no position of the same role; they take the mean."""
    source: str
    """Where pairs and texts come from."""
    options: Options
    n_layers: int
    n_heads: int
    identities: tuple[Identity, ...]


def usable(model: HookedTransformer, texts: Sequence[TokenizedText]) -> LossInput:
    """Loss input of the texts in which a token can be predicted; `ValueError` for fewer than two, before any run."""
    given = loss_input(model, texts)
    kept = given.scored.any(1) if given is not None else torch.zeros(0, dtype=torch.bool)
    if given is None or int(kept.sum()) < 2:
        raise ValueError(
            f"texts: {int(kept.sum())} of {len(texts)} have a token that can be predicted; resampling takes values "
            "from another text, so at least 2 are needed"
        )
    return LossInput(given.tokens[kept], given.mask[kept], None if given.labels is None else given.labels[kept])


def check(model: HookedTransformer, pairs: Sequence[PromptPair], options: Options) -> None:
    """`ValueError` for what cannot be ablated as asked, before any run."""
    if model.cfg.n_layers < 1:
        raise ValueError(f"model={model.cfg.model_name!r}: it has no layers, so there is nothing to take out")
    if len(pairs) < 2:
        raise ValueError(f"pairs: {len(pairs)} given; resampling takes values from another pair, so give at least 2")
    if options.together not in KINDS:
        raise ValueError(f"together={options.together!r}: choose one of {', '.join(KINDS)}")
    for name in ("draws", "limit", "random_orders"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name}={getattr(options, name)!r}: must be at least 1")


def study_ablation(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    texts: Sequence[TokenizedText],
    options: Options,
    *,
    source: str,
) -> AblationStudy:
    """Check, then take out every part in every way, groups of neurons, and pairs of heads.

    `source` says in words where pairs and texts come from.
    """
    check(model, pairs, options)
    given = usable(model, texts)
    generator = torch.Generator().manual_seed(options.seed)
    task = Task.of(model, pairs)
    text_set = Texts.of(model, given)
    means = mean_activations(model, texts, parts.part_hooks(model))
    of_task, missing = _task_replacements(model, task, means, options.draws, generator)
    of_texts = _text_replacements(text_set, means, model, options.draws, generator)
    found = directions(model, task)
    on_task, on_texts = (
        _subject_study(model, subject, kinds, options.seed)
        for subject, kinds in ((task, of_task), (text_set, of_texts))
    )
    groups = _groups(model, (task, of_task), (text_set, of_texts), found, options.random_orders, generator)
    chosen = of_task[options.together][0]
    return AblationStudy(
        parts.all_parts(model),
        replace(on_task, groups=groups[0]),
        replace(on_texts, groups=groups[1]),
        interactions(model, task, chosen, limit=options.limit),
        self_repair(model, task, chosen, found),
        missing,
        source,
        options,
        model.cfg.n_layers,
        model.cfg.n_heads,
        ablation_identities(model, task, found, {kind: draws[0] for kind, draws in of_task.items()}),
    )


def _task_replacements(
    model: HookedTransformer, task: Task, means: Mapping[str, Tensor], draws: int, generator: torch.Generator
) -> tuple[dict[str, Draws], float]:
    hooks = parts.part_hooks(model)
    values = {hook: task.run.cache[hook] for hook in hooks}
    sources = [replacements.role_source(task.pairs, generator) for _ in range(draws)]
    tokens, mask = pad([pair.corrupted for pair in task.pairs])
    other = clean_run(model, tokens, mask, mask)
    taken = replacements.taken_from(
        {hook: other.cache[hook] for hook in hooks}, replacements.corrupted_source(task.pairs), means
    )
    missing = sum(replacements.missing_share(source, task.run.mask.cpu()) for source in sources) / draws
    return {
        "zero": (replacements.zero(values),),
        "mean": (replacements.mean(means),),
        "resample": tuple(replacements.taken_from(values, source, means) for source in sources),
        "corrupted": (taken,),
        NULL: tuple(replacements.turned(means, generator) for _ in range(draws)),
    }, missing


def _text_replacements(
    texts: Texts, means: Mapping[str, Tensor], model: HookedTransformer, draws: int, generator: torch.Generator
) -> dict[str, Draws]:
    values = {hook: texts.run.cache[hook] for hook in parts.part_hooks(model)}
    sources = [replacements.position_source(texts.run.mask.cpu(), generator) for _ in range(draws)]
    return {
        "zero": (replacements.zero(values),),
        "mean": (replacements.mean(means),),
        "resample": tuple(replacements.taken_from(values, source, means) for source in sources),
        NULL: tuple(replacements.turned(means, generator) for _ in range(draws)),
    }


def _subject_study(model: HookedTransformer, subject: Subject, kinds: Mapping[str, Draws], seed: int) -> SubjectStudy:
    chosen, costs = parts.all_parts(model), {}
    for kind, draws in track(kinds.items(), "ways to take parts out", total=len(kinds)):
        found = torch.stack([lost(model, subject, chosen, each) for each in draws], dim=1)
        costs[kind] = tuple(judge(measure, seed=seed) for measure in found)
    return SubjectStudy(subject.whole, costs, ())


def _groups(
    model: HookedTransformer,
    task: tuple[Task, Mapping[str, Draws]],
    texts: tuple[Texts, Mapping[str, Draws]],
    found: Directions,
    n_random: int,
    generator: torch.Generator,
) -> tuple[tuple[NeuronGroups, ...], tuple[NeuronGroups, ...]]:
    """Neuron groups of every block on both subjects, the same groups on both."""
    made: tuple[list[NeuronGroups], list[NeuronGroups]] = ([], [])
    for layer in range(0 if model.cfg.attn_only else model.cfg.n_layers):
        orders = rankings(model, task[0], texts[0], layer, found)
        random = random_orders(orders.shape[1], n_random, generator)
        for into, (subject, kinds) in zip(made, (task, texts), strict=True):
            chosen = {kind: draws[0] for kind, draws in kinds.items() if kind != NULL}
            groups = neuron_groups(model, subject, layer, orders=orders, replacements=chosen, random=random)
            into.append(groups)
    return tuple(made[0]), tuple(made[1])
