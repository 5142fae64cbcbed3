"""What would be predicted at each depth: the residual stream so far, read in two ways that must not be confused.

- logit lens (nostalgebraist 2020): read as if it were the last one, the final LayerNorm (and a masked-language-model
  head's activation) computed anew from it
- accumulated attribution: the sum of the direct effects so far, the final LayerNorm's denominator (and the head's gate,
  and LayerNorms in between) held at their values in the run

Biases behind the last block (final LayerNorm, head, b_U) count at every depth. At the last depth both are the logit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lens_utils.attribution.aims import Aim
from lens_utils.attribution.frozen import FrozenRead
from lens_utils.attribution.readout import ReadVectors
from lens_utils.hooked_transformer import HookedTransformer


@dataclass(frozen=True)
class Lens:
    """One target at each depth, in nats."""

    depths: tuple[str, ...]
    recomputed: Float64[Tensor, " depth"]
    """Logit lens."""
    accumulated: Float64[Tensor, " depth"]
    """Sum of direct effects so far."""
    top: Int64[Tensor, " depth"]
    """Token that the logit lens puts first."""


@torch.no_grad()
def logit_lens(model: HookedTransformer, run: FrozenRead, aim: Aim, vectors: ReadVectors, *, target: int = 0) -> Lens:
    """Both readings of `aim`, which is number `target` of what `vectors` were computed for."""
    names, streams, reads = ["embeddings"], [run.start], [vectors.start]
    for layer, frozen in enumerate(run.layers):
        if frozen.middle is not None:
            names.append(f"L{layer} attention")
            streams.append(frozen.middle)
            reads.append(vectors.middle[layer])
        names.append(f"L{layer} {'attention' if frozen.middle is None else 'MLP'}")
        streams.append(frozen.end)
        reads.append(vectors.end[layer])
    stream = torch.stack(streams)
    logits = model.unembed(model.mlm_head(model.ln_final(stream.unsqueeze(0))))[0]
    so_far = (stream * torch.stack([read[target] for read in reads])).sum(-1)
    accumulated = so_far + vectors.read_out[target] + aim.of(model.b_U)
    return Lens(tuple(names), aim.of(logits).cpu().double(), accumulated.cpu().double(), logits.argmax(-1).cpu())
