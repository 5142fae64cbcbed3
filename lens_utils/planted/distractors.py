"""Heads that follow no target rule: what a labelled head must be told from."""

import torch

from lens_utils.planted.model import HIT, PlantedHead, PlantedShape, Rule


def word_to_word(shape: PlantedShape, queries: tuple[int, ...], keys: tuple[int, ...], score: float = HIT) -> Rule:
    """Score from each of some tokens to each of some tokens."""
    scores = torch.zeros(shape.vocab, shape.vocab)
    scores[torch.tensor(queries)[:, None], torch.tensor(keys)] = score
    return Rule("T", "T", scores)


def distractors_of(shape: PlantedShape, count: int, generator: torch.Generator) -> list[PlantedHead]:
    """Heads that follow no rule, in turn: uniform, random scores between tokens, favourite words, word to word, and
    the latest tokens, fading with distance."""
    made = []
    for index in range(count):
        kind = index % 5
        if kind == 0:
            made.append(PlantedHead(sink=0.0))
        elif kind == 1:
            scale = HIT / 120 * 2 ** (index // 5)
            made.append(
                PlantedHead(
                    qk=(Rule("T", "T", scale * torch.randn(shape.vocab, shape.vocab, generator=generator)),), sink=0.0
                )
            )
        elif kind == 4:
            made.append(_local(shape, 8.0 * 2 ** (index // 5)))
        else:
            # A favourite BOS would make a head of the first position
            order = (1 + torch.randperm(shape.vocab - 1, generator=generator)).tolist()
            keys = tuple(order[: shape.vocab // 6])
            queries = tuple(range(shape.vocab)) if kind == 2 else tuple(order[-shape.vocab // 2 :])
            made.append(PlantedHead(qk=(word_to_word(shape, queries, keys),), sink=0.0))
    return made


def _local(shape: PlantedShape, length: float) -> PlantedHead:
    """Attention that falls by e every `length` tokens from the query, on both sides where both are seen."""
    position = torch.arange(shape.n_ctx)
    distance = (position[:, None] - position).abs()
    return PlantedHead(qk=(Rule("P", "P", -distance / length),), sink=0.0)
