"""Hook factories: (hook name, function) pairs for `model.hooks(fwd_hooks=[...])`, which removes them again."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import stream_activations
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText

Hook = tuple[str, Callable[[Tensor, object], Tensor]]


def fix_head(layer: int, head: int, output: Float[Tensor, " d_head"]) -> Hook:
    """Head `head` puts out this z at every position, whatever it attends to; zeros are zero ablation."""

    def fixed(z: Float[Tensor, "batch pos head d_head"], hook: object) -> Float[Tensor, "batch pos head d_head"]:
        z = z.clone()
        z[:, :, head] = output.to(z)
        return z

    return hook_names.z(layer), fixed


def mean_outputs(model: HookedTransformer, texts: Sequence[TokenizedText]) -> Float[Tensor, "layer head d_head"]:
    """Each head's mean z over all tokens of the texts: what mean ablation puts in its place."""
    hooks = [hook_names.z(layer) for layer in range(model.cfg.n_layers)]
    means = mean_activations(model, texts, hooks)
    stacked = torch.stack([means[hook] for hook in hooks]) if hooks else torch.zeros(0)
    return stacked.view(model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_head)


def mean_activations(
    model: HookedTransformer, texts: Sequence[TokenizedText], hooks: Sequence[str]
) -> dict[str, Float64[Tensor, "..."]]:
    """Mean over all tokens of the texts of the activation at each hook, which is [batch, pos, ...]; in float64."""
    totals: dict[str, Tensor] = {}
    count = 0
    for batch in stream_activations(model, texts, hooks):
        for hook in hooks:
            summed = batch.real(hook).double().sum(0).cpu().view(batch.cache[hook].shape[2:])
            totals[hook] = totals[hook] + summed if hook in totals else summed
        count += int(batch.mask.sum())
    return {hook: total / count for hook, total in totals.items()}
