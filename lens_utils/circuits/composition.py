"""Composition of heads (Elhage et al. 2021): how much a later head reads what an earlier one writes, by weights alone.

With row vectors, W_OV = W_V W_O, W_QK = W_Q W_K^T and Frobenius norms, head 2 being in a later layer than head 1:

| kind | score |
|---|---|
| Q | ||W_OV1 W_QK2|| / (||W_OV1|| ||W_QK2||) |
| K | ||W_OV1 W_QK2^T|| / (||W_OV1|| ||W_QK2||) |
| V | ||W_OV1 W_OV2|| / (||W_OV1|| ||W_OV2||) |

Neither circuit is formed. With M1 = W_O1^T (W_V1^T W_V1) W_O1, what the first head writes squared, and
M2 = W_Q2 (W_K2^T W_K2) W_Q2^T, what the second reads squared, ||W_OV1 W_QK2||^2 = tr(M1 M2) = sum of their entrywise
product: the scores of all pairs are one product of a [heads, d_model^2] with a [d_model^2, heads] matrix, taken a block
of rows at a time and, the Ms being symmetric, over half of the entries. In float32 a score of 0 can read 1e-4.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils.circuits.random_heads import random_factors, random_rotation
from lens_utils.circuits.weights import check_circuits
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.progress import track

KINDS = ("Q", "K", "V")
WEIGHTS = ("W_Q", "W_K", "W_V", "W_O")


_BLOCK_VALUES = 24_000_000
"""Numbers of one block of rows of all heads' squared circuits: 100 MB of float32."""


@dataclass(frozen=True)
class Circuits:
    """Heads as factors of their circuits, squared: what they write is outer^T gram outer, and likewise what they read.

    The head axis runs over all heads, layer by layer.
    """

    writes: Float[Tensor, "head d_head d_model"]
    """W_O."""
    write_gram: Float[Tensor, "head d_head d_head"]
    """W_V^T W_V."""
    reads: Float[Tensor, "kind head d_model d_head"]
    """W_Q, W_K, W_V."""
    read_gram: Float[Tensor, "kind head d_head d_head"]
    """W_K^T W_K, W_Q^T W_Q, W_O W_O^T."""

    @classmethod
    def of(
        cls,
        w_q: Float[Tensor, "head d_model d_head"],
        w_k: Float[Tensor, "head d_model d_head"],
        w_v: Float[Tensor, "head d_model d_head"],
        w_o: Float[Tensor, "head d_head d_model"],
    ) -> "Circuits":
        """The circuits of these heads."""
        q, k, v = (w.transpose(-1, -2) @ w for w in (w_q, w_k, w_v))
        return cls(w_o, v, torch.stack([w_q, w_k, w_v]), torch.stack([k, q, w_o @ w_o.transpose(-1, -2)]))

    def heads(self, start: int, stop: int) -> "Circuits":
        """Some of the heads."""
        of = slice(start, stop)
        return Circuits(self.writes[of], self.write_gram[of], self.reads[:, of], self.read_gram[:, of])

    @property
    def written(self) -> Float[Tensor, " head"]:
        """||W_OV||."""
        return (self.write_gram * self.read_gram[2]).sum((-1, -2)).clamp(min=0).sqrt()

    @property
    def read(self) -> Float[Tensor, "kind head"]:
        """||W_QK||, ||W_QK||, ||W_OV||."""
        qk = (self.read_gram[0] * self.read_gram[1]).sum((-1, -2)).clamp(min=0).sqrt()
        return torch.stack([qk, qk, self.written])


@torch.no_grad()
def pair_scores(first: Circuits, second: Circuits) -> Float[Tensor, "kind sender receiver"]:
    """Q-, K- and V-composition of every head of `first` with every one of `second`; 0 where either is a null head."""
    kinds, receivers, d_model, _ = second.reads.shape
    senders = len(first.writes)
    written, reading = first.writes.transpose(1, 2), second.reads
    out = first.write_gram @ first.writes
    into = second.read_gram @ reading.transpose(2, 3)
    rows = max(1, min(d_model, _BLOCK_VALUES // (d_model * (senders + kinds * receivers))))
    # Fresh memory for each block would take longer than the products
    counts = (senders, kinds * receivers)
    buffers = [out.new_empty(count * rows * d_model) for count in counts]
    squares = out.new_zeros(senders, kinds * receivers)
    for start in range(0, d_model, rows):
        block, shape = slice(start, start + rows), (min(rows, d_model - start), d_model - start)
        writes, reads = (_shaped(*each, shape) for each in zip(buffers, counts, strict=True))
        torch.bmm(written[:, block], out[:, :, start:], out=writes)
        writes[:, :, rows:] *= 2  # entries right of the block stand for their mirror images too
        for kind, of_kind in enumerate(reads.split(receivers)):
            torch.bmm(reading[kind, :, block], into[kind, :, :, start:], out=of_kind)
        squares += writes.flatten(1) @ reads.flatten(1).T
    norms = squares.clamp(min=0).sqrt().view(senders, kinds, receivers).transpose(0, 1)
    sizes = first.written[None, :, None] * second.read[:, None, :]
    return torch.where(sizes > 0, norms / torch.where(sizes > 0, sizes, 1.0), 0.0)


def _shaped(buffer: Tensor, count: int, shape: tuple[int, int]) -> Float[Tensor, "head row column"]:
    """The beginning of the buffer as so many matrices of one shape."""
    return buffer[: count * shape[0] * shape[1]].view(count, *shape)


def composition_scores(model: HookedTransformer) -> Float[Tensor, "kind sender receiver"]:
    """Scores of every pair of heads, named as in `all_head_labels`; nan where the receiver is not in a later layer.

    Kinds in the order of KINDS. Raises `ValueError` for fewer than 2 layers, post-norm models, unfolded LayerNorm.
    """
    check_composition(model)
    return later_scores(_circuits(model), model.cfg.n_heads)


def check_composition(model: HookedTransformer) -> None:
    """`check_circuits`, and at least two layers."""
    check_circuits(model)
    if model.cfg.n_layers < 2:
        raise ValueError(
            f"model {model.cfg.model_name!r} has {model.cfg.n_layers} layers: heads compose across at least 2"
        )


def _circuits(model: HookedTransformer) -> Circuits:
    attns = [block.attn for block in model.blocks]
    return Circuits.of(*(torch.cat([getattr(attn, name).detach() for attn in attns]) for name in WEIGHTS))


def later_scores(
    circuits: Circuits, n_heads: int, *, reading: Circuits | None = None
) -> Float[Tensor, "kind sender receiver"]:
    """`pair_scores` of all heads, `n_heads` a layer; nan where the receiver is not later.

    With `reading`, heads read as these circuits do, and write as the others.
    """
    total = len(circuits.writes)
    scores = circuits.writes.new_full((len(KINDS), total, total), torch.nan)
    second = (reading or circuits).heads(n_heads, total)
    found = pair_scores(circuits.heads(0, total - n_heads), second)
    pair = is_pair(total // n_heads, n_heads).to(found.device)
    scores[:, :-n_heads, n_heads:] = torch.where(pair[:-n_heads, n_heads:], found, torch.nan)
    return scores


def is_pair(n_layers: int, n_heads: int) -> Bool[Tensor, "sender receiver"]:
    """True where the receiver is in a later layer than the sender."""
    layer = torch.arange(n_layers).repeat_interleave(n_heads)
    return layer[:, None] < layer[None, :]


def random_scores(d_model: int, d_head: int, *, n: int, seed: int) -> Float[Tensor, " pair"]:
    """Composition of n pairs of random heads: mean 1/sqrt(d_model), alike for Q, K and V."""
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for start in range(0, n, 64):
        size = min(64, n - start)
        (v1, o1), (q2, k2) = (random_factors(size, d_model, d_head, generator=generator) for _ in range(2))
        between = o1 @ q2
        outer, inner = v1.transpose(1, 2) @ v1, k2 @ k2.transpose(1, 2)
        squares = ((outer @ between) * (between @ inner)).sum((1, 2))
        sizes = (outer * (o1 @ o1.transpose(1, 2))).sum((1, 2)) * (inner * (q2.transpose(1, 2) @ q2)).sum((1, 2))
        scores.append((squares.clamp(min=0) / sizes).sqrt())
    return torch.cat(scores)


@dataclass(frozen=True)
class RotationNull:
    """Scores after the later heads were turned at random in the residual stream: same spectra, no shared directions."""

    mean: Float[Tensor, "kind sender receiver"]
    sd: Float[Tensor, "kind sender receiver"]
    standardised: Float[Tensor, "rotation kind sender receiver"]
    """(score - mean) / sd of each rotation; 0 where sd is 0."""


def rotation_null(model: HookedTransformer, *, n: int, seed: int) -> RotationNull:
    """Mean and sd of each pair's score over n uniformly random rotations (at least 2).

    The spread grows with how few directions a head uses, which random Gaussian heads do not show.
    """
    check_composition(model)
    if n < 2:
        raise ValueError(f"n={n!r}: a standard deviation needs at least 2 rotations")
    generator = torch.Generator().manual_seed(seed)
    circuits, n_heads = _circuits(model), model.cfg.n_heads
    found = torch.stack([_rotated(circuits, n_heads, generator) for _ in track(range(n), "rotations")]).double()
    mean, sd = found.mean(0), found.std(0)
    deviations = (found - mean) / torch.where(sd == 0, 1.0, sd)
    return RotationNull(mean, sd, deviations)


def _rotated(circuits: Circuits, n_heads: int, generator: torch.Generator) -> Tensor:
    """Scores with one rotation between what is written and what is read, another for each receiving layer."""
    layers = circuits.reads.split(n_heads, dim=1)
    d_model = circuits.reads.shape[2]
    turned = [random_rotation(d_model, generator=generator).to(reads) @ reads for reads in layers]
    reading = replace(circuits, reads=torch.cat(turned, dim=1))
    return later_scores(circuits, n_heads, reading=reading)


def z_scores(scores: Tensor, mean: Tensor | float, sd: Tensor | float) -> Tensor:
    """(score - mean) / sd; 0 where the null has no spread (null heads)."""
    spread = torch.as_tensor(sd, dtype=scores.dtype)
    return torch.where(spread > 0, (scores - mean) / torch.where(spread > 0, spread, 1.0), 0.0 * scores)
