"""What must hold whatever the model does: checked on every run, on the task's prompts.

Errors are largest differences of logit differences over prompts; the tolerance is 1e-5 of the largest logit
difference, at least 1e-5 (float32 with batches of other sizes), and 1e-4 of it for the sum of many parts.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation_study import parts
from lens_utils.ablation_study.direct_effects import Directions, direct_sum
from lens_utils.ablation_study.parts import Part
from lens_utils.ablation_study.replacements import Replacement
from lens_utils.ablation_study.subjects import Task, ablated
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.interventions import fix_head

SHARE = 1e-5
"""Tolerance as a share of the largest logit difference."""


def ablation_identities(
    model: HookedTransformer, task: Task, found: Directions, kinds: Mapping[str, Replacement]
) -> tuple[Identity, ...]:
    """Nothing taken out; whole layers against their heads and neurons; one at a time; the sum of direct effects."""
    clean = task.whole[0]
    tolerance = SHARE * max(1.0, float(clean.abs().max()))
    checks = [
        ("nothing taken out", "every part masked out nowhere = unablated", _nothing(model, task, kinds["zero"]), clean),
        ("a layer's heads at zero", "all z = 0 is attn_out = b_O, each layer", *_zeroed(model, task, kinds["zero"])),
        ("a layer's heads at their mean", "all z at mean is attn_out at mean", *_averaged(model, task, kinds["mean"])),
        ("one at a time", "head 0 of each layer in stacked rows = alone, first pair", *_alone(model, task, kinds)),
    ]
    if not model.cfg.attn_only:
        statement = "all neurons at their mean is mlp_out at its mean, each layer"
        checks.append(("a layer's neurons at their mean", statement, *_neurons(model, task, kinds["mean"])))
    summed = direct_sum(model, task, found).double().cpu()
    statement = "direct effects of all parts, embedding and biases = logit difference (nats)"
    return (
        *(Identity(name, f"{text} (nats)", _gap(one, other), tolerance) for name, text, one, other in checks),
        Identity("direct effects", statement, _gap(summed, clean), 10 * tolerance),
    )


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _nothing(model: HookedTransformer, task: Task, replacement: Replacement) -> Float64[Tensor, "ablation pair"]:
    empty = [
        Part(part.name, part.kind, part.layer, {hook: torch.zeros_like(mask) for hook, mask in part.masks.items()})
        for part in parts.all_parts(model)
    ]
    return ablated(model, task, empty, replacement)[0]


def _layers(model: HookedTransformer) -> list[Part]:
    count = range(model.cfg.n_heads)
    return [parts.together([parts.head(model, layer, head) for head in count]) for layer in range(model.cfg.n_layers)]


def _zeroed(model: HookedTransformer, task: Task, zero: Replacement) -> tuple[Tensor, Tensor]:
    biases = {
        hook_names.attn_out(layer): block.attn.b_O.detach()[None, None] for layer, block in enumerate(model.blocks)
    }
    whole = [parts.attention(layer) for layer in range(model.cfg.n_layers)]
    return ablated(model, task, _layers(model), zero)[0], ablated(model, task, whole, Replacement(biases))[0]


def _averaged(model: HookedTransformer, task: Task, mean: Replacement) -> tuple[Tensor, Tensor]:
    whole = [parts.attention(layer) for layer in range(model.cfg.n_layers)]
    return ablated(model, task, _layers(model), mean)[0], ablated(model, task, whole, mean)[0]


def _neurons(model: HookedTransformer, task: Task, mean: Replacement) -> tuple[Tensor, Tensor]:
    assert model.cfg.d_mlp is not None
    everything = torch.ones(model.cfg.d_mlp, dtype=torch.bool)
    layers = range(model.cfg.n_layers)
    groups, whole = [parts.neurons(layer, everything) for layer in layers], [parts.mlp(layer) for layer in layers]
    return ablated(model, task, groups, mean)[0], ablated(model, task, whole, mean)[0]


def _alone(model: HookedTransformer, task: Task, kinds: Mapping[str, Replacement]) -> tuple[Tensor, Tensor]:
    """One prompt, one head, from the tokens on, by the plain hook, against the stacked rows."""
    pair, stacked, alone = task.pairs[0], [], []
    for kind in ("zero", "mean"):
        chosen = [parts.head(model, layer, 0) for layer in range(model.cfg.n_layers)]
        stacked.append(ablated(model, task, chosen, kinds[kind])[0][:, 0])
        for layer in range(model.cfg.n_layers):
            hook = fix_head(layer, 0, kinds[kind].values[hook_names.z(layer)][0, 0, 0].to(model.device))
            with torch.inference_mode(), model.hooks(fwd_hooks=[hook]):
                logits = model(pair.clean.tokens[None].to(model.device))[0, pair.clean_end].double().cpu()
            alone.append(logits[pair.answer] - logits[pair.wrong])
    return torch.cat(stacked), torch.stack(alone)
