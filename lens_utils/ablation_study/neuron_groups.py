"""Growing groups of a block's neurons taken out: the strongest first, by two rankings, beside random groups."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation import growing_groups
from lens_utils.ablation_study import parts
from lens_utils.ablation_study.direct_effects import Directions, neuron_effects
from lens_utils.ablation_study.replacements import Replacement
from lens_utils.ablation_study.subjects import Subject, Task, Texts, lost
from lens_utils.hooked_transformer import HookedTransformer

RANKINGS = ("activation norm", "direct effect")
"""L2 norm of the activation over the texts' tokens; mean |direct effect| on the logit difference at the end."""


@dataclass(frozen=True)
class NeuronGroups:
    """Costs of one block's groups on each unit of one subject, all measures."""

    layer: int
    sizes: tuple[int, ...]
    """1, 2, 4, ... and all neurons."""
    ranked: Mapping[tuple[str, str], Float64[Tensor, "measure size unit"]]
    """(ranking, kind of replacement) -> costs."""
    random: Float64[Tensor, "measure order size"]
    """Mean costs of groups in random orders, at their means: the null of `mean`."""


def rankings(
    model: HookedTransformer, task: Task, texts: Texts, layer: int, found: Directions
) -> Int[Tensor, "ranking d_mlp"]:
    """Neurons by each of `RANKINGS`, strongest first."""
    post = texts.run.cache[hook_names.mlp_post(layer)][texts.run.mask]
    strengths = [post.double().norm(dim=0), neuron_effects(model, task, layer, found).double().abs().mean(0)]
    return torch.stack([each.argsort(descending=True, stable=True) for each in strengths]).cpu()


def neuron_groups(
    model: HookedTransformer,
    subject: Subject,
    layer: int,
    *,
    orders: Int[Tensor, "ranking d_mlp"],
    replacements: Mapping[str, Replacement],
    random: Int[Tensor, "order d_mlp"],
) -> NeuronGroups:
    """The groups of `orders` (`rankings`) under every replacement, and of random orders under `mean`."""
    sizes, groups = growing_groups(torch.cat([orders, random]))
    ranked = {
        (name, kind): _costs(model, subject, layer, groups[row, 1:], replacement)
        for kind, replacement in replacements.items()
        for row, name in enumerate(RANKINGS)
    }
    # All neurons are one group in any order: it is run once
    null = [_costs(model, subject, layer, each[1:-1], replacements["mean"]).mean(-1) for each in groups[len(orders) :]]
    whole = ranked[RANKINGS[0], "mean"][:, -1:].mean(-1)
    return NeuronGroups(layer, sizes[1:], ranked, torch.stack([torch.cat([each, whole], 1) for each in null], 1))


def _costs(
    model: HookedTransformer,
    subject: Subject,
    layer: int,
    groups: Bool[Tensor, "size d_mlp"],
    replacement: Replacement,
) -> Float64[Tensor, "measure size unit"]:
    return lost(model, subject, [parts.neurons(layer, group) for group in groups], replacement)


def random_orders(d_mlp: int, n: int, generator: torch.Generator) -> Int[Tensor, "order d_mlp"]:
    """n random orders of the neurons."""
    return torch.stack([torch.randperm(d_mlp, generator=generator) for _ in range(n)])
