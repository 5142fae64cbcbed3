"""What feeds a head: which earlier heads its queries and its keys read."""

from dataclasses import dataclass
from typing import Literal

import torch

from lens_utils.circuits.composition import KINDS
from lens_utils.induction.study import InductionStudy


@dataclass(frozen=True)
class Route:
    """How a later head reads an earlier one, by weights and on repeated tokens."""

    k_score: float
    k_z: float
    """K-composition in standard deviations above random heads; q_z likewise."""
    key_share: float
    """Share of the variance of the later head's scores whose key side is what the earlier one wrote; nan with MLPs."""
    q_score: float
    q_z: float
    query_share: float


def route(study: InductionStudy, sender: tuple[int, int], receiver: tuple[int, int]) -> Route:
    """Both sides of the scores of a later head."""
    assert study.pairs is not None
    pair = (sender[0] * study.n_heads + sender[1], receiver[0] * study.n_heads + receiver[1])
    found = {}
    for kind, side, summed in (("K", "key", 0), ("Q", "query", 1)):
        at = (KINDS.index(kind), *pair)
        name = kind.lower()
        found |= {f"{name}_score": float(study.pairs.scores[at]), f"{name}_z": float(study.pairs.z[at])}
        found[f"{side}_share"] = torch.nan
        for each in study.sources:
            if (each.layer, each.head) == receiver:
                found[f"{side}_share"] = float(each.shares.sum(summed)[each.sources.index(f"L{sender[0]}H{sender[1]}")])
    return Route(**found)


Side = Literal["key", "query"]


def feeder(study: InductionStudy, receiver: tuple[int, int], side: Side) -> int | None:
    """Index in `ablations` of the earlier head that feeds one side of a head most; None in layer 0.

    By its share of the scores; by composition where that was not measured.
    """
    earlier = [at for at, (head, *more) in enumerate(study.ablations.ablated) if not more and head[0] < receiver[0]]
    if not earlier:
        return None

    def strength(at: int) -> tuple[float, float]:
        found = route(study, study.ablations.ablated[at][0], receiver)
        share = found.key_share if side == "key" else found.query_share
        return (share if share == share else 0.0, found.k_z if side == "key" else found.q_z)

    return max(earlier, key=strength)
