"""One prompt measured at every level, for its own target and for the null's, and how exact the sums are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.attribution.aims import Aim, NullAims, all_of
from lens_utils.attribution.frozen import FrozenRead
from lens_utils.attribution.lens import Lens, logit_lens
from lens_utils.attribution.parts import Parts, decompose, neuron_parts, source_attention, source_parts
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity

TOLERANCE = 1e-4
"""Largest departure of a sum of parts from the model's own logits, float32, in nats."""


class Source(NamedTuple):
    """What heads take from each token of one prompt."""

    parts: Float64[Tensor, "layer head key"]
    attention: Float64[Tensor, "layer head key"]


@dataclass(frozen=True)
class MeasuredPrompt:
    """One prompt's measurements; the first target is its own, the others are the null's."""

    parts: Parts
    total: Float64[Tensor, " target"]
    neurons: Float64[Tensor, "mlp_layer d_mlp"]
    source: Source
    lens: Lens
    sides: Float64[Tensor, "layer head side"]
    """What heads add to each of the two tokens of a difference, over the mean logit; no sides otherwise."""


def measure(model: HookedTransformer, run: FrozenRead, aim: Aim, null: NullAims) -> MeasuredPrompt:
    """Every level of one frozen run."""
    aims = [aim, *null.pool]
    parts, vectors = decompose(model, run, aims)
    logits = run.logits.cpu().double()
    return MeasuredPrompt(
        parts,
        all_of(aims, logits),
        neuron_parts(model, run, vectors),
        Source(
            source_parts(model, run, vectors),
            source_attention(model, run),
        ),
        logit_lens(model, run, aim, vectors),
        decompose(model, run, list(aim.sides))[0].heads if aim.sides else parts.heads[..., :0],
    )


def identities(found: Sequence[MeasuredPrompt]) -> tuple[Identity, ...]:
    """At each level the parts sum to the target's logits, and so do both lenses behind the last block."""

    def worst(errors: list[Tensor]) -> float:
        # Unlike Python's max, this keeps what is not a number
        return float(torch.stack([error.abs().max() for error in errors]).max())

    own = [(each.parts, each.total, each) for each in found]
    whole = "the target's logits (nats), largest departure over prompts"
    errors = {
        "components": [torch.stack([*parts.components.values()]).sum(0) - total for parts, total, _ in own],
        "heads": [parts.heads.sum((0, 1)) + parts.besides_heads - total for parts, total, _ in own],
        "source tokens": [
            (each.source.parts.sum() + parts.besides_heads[0] - total[0])[None] for parts, total, each in own
        ],
    }
    if found[0].neurons.numel():
        errors["neurons"] = [
            (each.neurons.sum() + parts.besides_neurons[0] - total[0])[None] for parts, total, each in own
        ]
    sums = [
        Identity(f"{level} sum to the logit", f"sum of {level}, and all besides = {whole}", worst(error), TOLERANCE)
        for level, error in errors.items()
    ]
    ends = [torch.stack([each.lens.recomputed[-1], each.lens.accumulated[-1]]) - each.total[0] for each in found]
    statement = f"logit lens and accumulated attribution behind the last block = {whole}"
    return (*sums, Identity("both lenses end in the logit", statement, worst(ends), TOLERANCE))
