"""What one batch adds to the scores of heads: attention mass by kind of cell, by distance, and about whole rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from lens_utils.activations import ActivationBatch
from lens_utils.target_cells import Cells


@dataclass(frozen=True)
class Distances:
    """Sums over cells at each distance key - query, from -(n - 1) to n - 1."""

    attention: Float[Tensor, "layer head distance"]
    visible: Float[Tensor, " distance"]
    targets: Float[Tensor, "rule distance"]

    @property
    def n_keys(self) -> int:
        """n of the class docstring."""
        return (self.visible.shape[0] + 1) // 2


@dataclass(frozen=True)
class HeadSums:
    """What one batch adds; `code_*` are summed over its prompts."""

    order: tuple[int, ...]
    mass: Float[Tensor, "prompt rule layer head"]
    rows: Float[Tensor, "prompt rule"]
    expected: Float[Tensor, "prompt rule"]
    member: Bool[Tensor, "code rule"]
    code_mass: Float[Tensor, "code layer head"]
    code_expected: Float[Tensor, " code"]
    code_even: Float[Tensor, "code rule"]
    about_rows: Float[Tensor, "3 layer head"]
    """Sums over rows of entropy, distance and mass on special tokens."""
    n_rows: int
    distances: "Distances"

    @classmethod
    def of(
        cls, batch: ActivationBatch, patterns: Sequence[Float[Tensor, "batch head query key"]], cells: Cells
    ) -> "HeadSums":
        """The sums over a batch, from the pattern of each layer."""
        member, counts = cells.member.float(), cells.by_row()
        targets = counts @ member
        per_key = 1 / cells.seen.sum(-1).clamp(min=1)
        code_mass = torch.stack([_mass_by_code(pattern, cells) for pattern in patterns], dim=2)
        code_expected = einsum(counts, per_key, "p query code, p query -> p code")
        by_distance = cells.by_distance()
        return cls(
            tuple(text.index for text in batch.texts),
            einsum(code_mass, member, "p code layer head, code rule -> p rule layer head"),
            (targets > 0).sum(1).float(),
            code_expected @ member,
            cells.member,
            code_mass.sum(0),
            code_expected.sum(0),
            einsum(counts, 1 / targets.clamp(min=1), "p query code, p query rule -> code rule"),
            torch.stack([_about_rows(pattern, batch) for pattern in patterns], dim=1),
            int(batch.mask.sum()),
            Distances(
                torch.stack([_by_distance(pattern, batch) for pattern in patterns]),
                by_distance.sum(0),
                member.T @ by_distance,
            ),
        )


def _by_distance(
    pattern: Float[Tensor, "batch head query key"], batch: ActivationBatch
) -> Float[Tensor, "head distance"]:
    real = torch.zeros(pattern.shape[1:])
    for weights, text in zip(pattern.float().cpu(), batch.texts, strict=True):
        real[:, : len(text)] += weights[:, : len(text)]
    return along_diagonals(real)


def _mass_by_code(pattern: Float[Tensor, "batch head query key"], cells: Cells) -> Float[Tensor, "batch code head"]:
    flat = rearrange(pattern.float().cpu(), "batch head query key -> batch head (query key)")
    index = rearrange(cells.index, "batch query key -> batch 1 (query key)").expand(flat.shape)
    sums = torch.zeros(*flat.shape[:2], cells.n_codes).scatter_add_(2, index, flat)
    return rearrange(sums, "batch head code -> batch code head")


def _about_rows(pattern: Float[Tensor, "batch head query key"], batch: ActivationBatch) -> Float[Tensor, "3 head"]:
    pattern = pattern.float().cpu()
    position = torch.arange(pattern.shape[-1], dtype=torch.float32)
    keys = torch.stack([position.expand(batch.mask.shape), torch.zeros(batch.mask.shape)], dim=-1)
    for row, text in enumerate(batch.texts):
        keys[row, : len(text), 1] = torch.tensor([float(name == "special") for name in text.classes])
    place, special = (pattern @ keys[:, None]).unbind(-1)
    real = batch.mask[:, None].float()
    measures = (_entropy(pattern), position - place, special)
    return torch.stack([(each * real).sum((0, 2)) for each in measures])


def _entropy(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch head query"]:
    """In nats; 0 log 0 is 0."""
    logs = pattern.clamp(min=torch.finfo(pattern.dtype).tiny).log_()
    return -logs.mul_(pattern).sum(-1)


def along_diagonals(cells: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch distance"]:
    """Sums of the cells at each distance key - query, from -(n - 1) to n - 1."""
    n = cells.shape[-1]
    # Rows of 2n read as rows of 2n - 1 slide by one each: query q's key k comes to stand at column k - q + n - 1
    reversed_rows = F.pad(cells.flip(-2), (0, n))
    skewed = reversed_rows.flatten(-2)[..., :-n].unflatten(-1, (n, 2 * n - 1))
    return skewed.sum(-2)


def padded(sums: Float[Tensor, "*axes distance"], n_keys: int) -> Float[Tensor, "*axes longer"]:
    """The sums with zeros at distances that only `n_keys` keys have."""
    more = n_keys - (sums.shape[-1] + 1) // 2
    return F.pad(sums, (more, more))
