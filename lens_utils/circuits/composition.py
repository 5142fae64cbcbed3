"""Composition of heads (Elhage et al. 2021): how much a later head reads what an earlier one writes, by weights alone.

With row vectors, W_OV = W_V W_O, W_QK = W_Q W_K^T and Frobenius norms, head 2 being in a later layer than head 1:

| kind | score |
|---|---|
| Q | ||W_OV1 W_QK2|| / (||W_OV1|| ||W_QK2||) |
| K | ||W_OV1 W_QK2^T|| / (||W_OV1|| ||W_QK2||) |
| V | ||W_OV1 W_OV2|| / (||W_OV1|| ||W_OV2||) |

No d_model x d_model product is formed: with the triangular factor R_V of W_V = Q R_V (so R_V^T R_V is the Gram matrix
W_V^T W_V), ||W_V1 X|| = ||R_V1 X||, which makes every norm that of a d_head x d_head matrix; all pairs of two layers
are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils.circuits.random_heads import random_factors, random_rotation
from lens_utils.circuits.weights import check_circuits
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.progress import track

KINDS = ("Q", "K", "V")


@dataclass(frozen=True)
class Readers:
    """Heads reduced to d_head wide matrices: `writes` = R_V W_O, and what Q, K and V read, R-factored on the far side.

    Any product of the two has the Frobenius norm of the full product of circuits.
    """

    writes: Float[Tensor, "head rank d_model"]
    reads: Float[Tensor, "kind head d_model rank"]
    written: Float[Tensor, " head"]
    """||W_OV||."""
    read: Float[Tensor, "kind head"]
    """||W_QK||, ||W_QK||, ||W_OV||."""


def readers(
    w_q: Float[Tensor, "head d_model d_head"],
    w_k: Float[Tensor, "head d_model d_head"],
    w_v: Float[Tensor, "head d_model d_head"],
    w_o: Float[Tensor, "head d_head d_model"],
) -> Readers:
    """The reduced form of these heads."""
    r_q, r_k, r_v, r_o = (_triangle(each) for each in (w_q, w_k, w_v, w_o.transpose(-1, -2)))
    writes = r_v @ w_o
    reads = torch.stack([w_q @ r_k.transpose(-1, -2), w_k @ r_q.transpose(-1, -2), w_v @ r_o.transpose(-1, -2)])
    qk = _norm(r_q @ r_k.transpose(-1, -2))
    ov = _norm(r_v @ r_o.transpose(-1, -2))
    return Readers(writes, reads, ov, torch.stack([qk, qk, ov]))


def _triangle(weight: Tensor) -> Float[Tensor, "head rank d_head"]:
    """R of weight = Q R: ||weight X|| = ||R X|| for every X."""
    return torch.linalg.qr(weight, mode="r").R


def _norm(matrices: Tensor) -> Tensor:
    return matrices.flatten(-2).norm(dim=-1)


def pair_scores(first: Readers, second: Readers) -> Float[Tensor, "kind sender receiver"]:
    """Q-, K- and V-composition of every head of `first` with every one of `second`; 0 where either is a null head."""
    kinds, receivers, d_model, width = second.reads.shape
    senders, rank, _ = first.writes.shape
    reads = second.reads.permute(2, 0, 1, 3).reshape(d_model, kinds * receivers * width)
    products = (first.writes.flatten(0, 1) @ reads).view(senders, rank, kinds, receivers, width)
    norms = products.square().sum((1, 4)).sqrt().permute(1, 0, 2)
    sizes = first.written[None, :, None] * second.read[:, None, :]
    return torch.where(sizes > 0, norms / torch.where(sizes > 0, sizes, 1.0), 0.0)


def composition_scores(model: HookedTransformer) -> Float[Tensor, "kind sender receiver"]:
    """Scores of every pair of heads, named as in `all_head_labels`; nan where the receiver is not in a later layer.

    Kinds in the order of KINDS. Raises `ValueError` for fewer than 2 layers, post-norm models, unfolded LayerNorm.
    """
    check_composition(model)
    return all_pair_scores(_reduced(model))


def check_composition(model: HookedTransformer) -> None:
    """`check_circuits`, and at least two layers."""
    check_circuits(model)
    if model.cfg.n_layers < 2:
        raise ValueError(
            f"model {model.cfg.model_name!r} has {model.cfg.n_layers} layers: heads compose across at least 2"
        )


def _reduced(model: HookedTransformer) -> list[Readers]:
    attns = [block.attn for block in model.blocks]
    return [readers(*(w.detach() for w in (attn.W_Q, attn.W_K, attn.W_V, attn.W_O))) for attn in attns]


def all_pair_scores(layers: Sequence[Readers]) -> Float[Tensor, "kind sender receiver"]:
    """`pair_scores` of every two layers, layers with equally many heads; nan where the receiver is not later."""
    n, heads = len(layers), len(layers[0].written)
    scores = layers[0].written.new_full((len(KINDS), n * heads, n * heads), torch.nan)
    for late in range(1, n):
        for early in range(late):
            rows = slice(early * heads, (early + 1) * heads)
            scores[:, rows, late * heads : (late + 1) * heads] = pair_scores(layers[early], layers[late])
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
        first, second = (random_factors(size, d_model, d_head, generator=generator) for _ in range(2))
        writes, reads = _triangle(first[0]) @ first[1], second[0] @ _triangle(second[1].transpose(1, 2)).transpose(1, 2)
        scores.append(_norm(writes @ reads) / (_norm(writes) * _norm(reads)))
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
    layers = _reduced(model)
    found = torch.stack([_rotated(model, layers, generator) for _ in track(range(n), "rotations")]).double()
    mean, sd = found.mean(0), found.std(0)
    deviations = (found - mean) / torch.where(sd == 0, 1.0, sd)
    return RotationNull(mean, sd, deviations)


def _rotated(model: HookedTransformer, layers: list[Readers], generator: torch.Generator) -> Tensor:
    """Scores with one rotation between what is written and what is read, another for each receiving layer."""
    turned = []
    for each in layers:
        rotation = random_rotation(model.cfg.d_model, generator=generator).to(each.reads)
        turned.append(Readers(each.writes, rotation @ each.reads, each.written, each.read))
    return all_pair_scores(turned)


def z_scores(scores: Tensor, mean: Tensor | float, sd: Tensor | float) -> Tensor:
    """(score - mean) / sd; 0 where the null has no spread (null heads)."""
    spread = torch.as_tensor(sd, dtype=scores.dtype)
    return torch.where(spread > 0, (scores - mean) / torch.where(spread > 0, spread, 1.0), 0.0 * scores)
