"""Single heads written by formula: what each attends to and what it writes is exact."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils.planted.model import HIT, PlantedHead, PlantedShape, Rule


def previous_token_head(shape: PlantedShape, *, score: float = HIT, distance: int = 1) -> PlantedHead:
    """Attends `distance` positions back (negative: ahead) and writes the token found there into A."""
    return PlantedHead(
        qk=(Rule("P", "P", shape.offset(distance, score)),),
        ov=(Rule("T", "A", shape.identity()),),
        sink=HIT / 2 if score == HIT else 0.0,
    )


def induction_head(shape: PlantedShape) -> PlantedHead:
    """Attends to tokens that follow an earlier copy of the current one, and predicts them; needs A from layer 0."""
    return PlantedHead(qk=(Rule("T", "A", shape.identity(HIT)),), ov=(Rule("T", "O", shape.identity()),))


def duplicate_token_head(shape: PlantedShape, *, exclude_self: bool = True) -> PlantedHead:
    """Attends to other positions of the same token; to itself only without `exclude_self`."""
    rules = [Rule("T", "T", shape.identity(HIT))]
    if exclude_self:
        rules.append(Rule("P", "P", shape.offset(0, -HIT)))
    return PlantedHead(qk=tuple(rules), ov=(Rule("T", "A", shape.identity()),))


def first_token_head(shape: PlantedShape) -> PlantedHead:
    """Attends to position 0."""
    return PlantedHead(ov=(Rule("T", "A", shape.identity()),), sink=HIT)


def uniform_head(shape: PlantedShape) -> PlantedHead:
    """Attends to all visible positions alike."""
    return PlantedHead(ov=(Rule("T", "A", shape.identity()),), sink=0.0)


def class_head(shape: PlantedShape, tokens: Sequence[int]) -> PlantedHead:
    """Attends to all visible positions that hold one of `tokens`; to the first position where there is none."""
    scores = torch.zeros(shape.vocab, shape.vocab)
    scores[:, list(tokens)] = HIT
    return PlantedHead(qk=(Rule("T", "T", scores),), ov=(Rule("T", "A", shape.identity()),))


def copying_head(shape: PlantedShape, ov: Float[Tensor, "vocab vocab"]) -> PlantedHead:
    """Attends to itself and writes `ov` of its token into O."""
    return PlantedHead(qk=(Rule("P", "P", shape.offset(0)),), ov=(Rule("T", "O", ov),))


def skip_trigram_head(shape: PlantedShape, trigrams: Sequence[tuple[int, int, int]]) -> PlantedHead:
    """For each (A, B, C): at B, attends to earlier A and predicts C there."""
    scores, outputs = torch.zeros(shape.vocab, shape.vocab), torch.zeros(shape.vocab, shape.vocab)
    for source, current, predicted in trigrams:
        scores[current, source] = HIT
        outputs[source, predicted] = 1
    return PlantedHead(qk=(Rule("T", "T", scores),), ov=(Rule("T", "O", outputs),))


def null_head() -> PlantedHead:
    """Attends to all alike and writes nothing."""
    return PlantedHead(sink=0.0)
