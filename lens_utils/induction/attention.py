"""How heads attend on repeated tokens, and what becomes of that when another head is ablated."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import stream_activations
from lens_utils.head_scores import HeadScores, score_heads
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.induction.losses import Repeat, by_copy, copy_losses, text_losses
from lens_utils.interventions import fix_head, mean_outputs
from lens_utils.progress import track


def matching(scores: HeadScores) -> Float64[Tensor, "text layer head"]:
    """Prefix-matching score of every text: mean attention to the token after the current one's earlier occurrence."""
    at = scores.rules.index("induction")
    return (scores.mass[:, at] / scores.rows[:, at, None, None]).double()


def to_first_position(model: HookedTransformer, repeats: Sequence[Repeat]) -> Float64[Tensor, "text copy layer head"]:
    """Mean attention to position 0 from each copy's tokens behind its first: where a head rests without a match."""
    hooks = [hook_names.pattern(layer) for layer in range(model.cfg.n_layers)]
    found = []
    for repeat in repeats:
        (batch,) = stream_activations(model, [repeat.text], hooks)
        to_first = torch.stack([batch.cache[hook][0, :, :, 0].double().cpu() for hook in hooks])
        copies = to_first[..., repeat.start :].unflatten(-1, (2, repeat.length))[..., 1:]
        found.append(copies.mean(-1).permute(2, 0, 1))
    return torch.stack(found)


@dataclass(frozen=True)
class Ablations:
    """Each head that a later one could read ablated in turn, and groups of heads."""

    ablated: tuple[tuple[tuple[int, int], ...], ...]
    """The heads that are ablated together; single ones first."""
    matching: Float64[Tensor, "ablated text layer head"]
    """Prefix-matching scores of all heads then."""
    loss: Float64[Tensor, "ablated text"]
    """Loss on the second copy's foreseeable tokens then, nats."""


def ablate_each(
    model: HookedTransformer,
    repeats: Sequence[Repeat],
    *,
    groups: Sequence[tuple[tuple[int, int], ...]] = (),
    zero: bool = False,
) -> Ablations:
    """Every head of every layer but the last, then each group: z fixed at its mean over these texts (or at 0)."""
    texts = [repeat.text for repeat in repeats]
    singles = [((layer, head),) for layer in range(model.cfg.n_layers - 1) for head in range(model.cfg.n_heads)]
    ablated = [*singles, *groups]
    outputs = mean_outputs(model, texts)
    outputs = torch.zeros_like(outputs) if zero else outputs
    scores, losses = [], []
    for heads in track(ablated, "ablations"):
        with model.hooks(fwd_hooks=[fix_head(layer, head, outputs[layer, head]) for layer, head in heads]):
            scores.append(matching(score_heads(model, texts, rules=("induction",))))
            losses.append(second_copy_loss(model, repeats))
    shape = (0, len(texts), model.cfg.n_layers, model.cfg.n_heads)
    return Ablations(
        tuple(ablated),
        torch.stack(scores) if scores else torch.zeros(shape, dtype=torch.float64),
        torch.stack(losses) if losses else torch.zeros(shape[:2], dtype=torch.float64),
    )


def second_copy_loss(model: HookedTransformer, repeats: Sequence[Repeat]) -> Float64[Tensor, " text"]:
    """Mean loss of each text on the second copy's foreseeable tokens, nats."""
    losses = text_losses(model, [repeat.text for repeat in repeats])
    return copy_losses(repeats, by_copy(repeats, losses))[:, 1]
