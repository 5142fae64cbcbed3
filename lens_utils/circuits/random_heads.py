"""Heads without structure: Gaussian matrices of unit norm, to scale to any head's norms."""

import torch
from jaxtyping import Float
from torch import Tensor


def random_factors(
    n: int, d_model: int, d_head: int, *, generator: torch.Generator
) -> tuple[Float[Tensor, "n d_model d_head"], Float[Tensor, "n d_head d_model"]]:
    """n pairs (W_V, W_O), or (W_Q, W_K^T), of independent normal entries, each matrix scaled to Frobenius norm 1."""
    reading = torch.randn(n, d_model, d_head, generator=generator)
    writing = torch.randn(n, d_head, d_model, generator=generator)
    return tuple(each / each.flatten(1).norm(dim=1)[:, None, None] for each in (reading, writing))  # pyright: ignore


def random_rotation(size: int, *, generator: torch.Generator) -> Float[Tensor, "size size"]:
    """A uniformly random orthogonal matrix: Q of a normal matrix, with the signs of diag(R) (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()
