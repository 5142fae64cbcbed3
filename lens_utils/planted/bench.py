"""A model full of heads of known kind, for planted texts: what head labels are calibrated and judged on.

Each layer holds one head of every kind that has a rule, distractors that follow none, and nothing else, in random
order. Weights are exact; `with_noise` adds to them. A head that finds no target rests on all visible keys alike.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.planted.distractors import distractors_of, word_to_word
from lens_utils.planted.heads import previous_token_head
from lens_utils.planted.model import HIT, PlantedHead, PlantedModel, PlantedShape, Rule
from lens_utils.planted.texts import BOS, CLOSING, GROUPS, OPENING, SPEECH, TOLD, Vocabulary
from lens_utils.target_rules import RECENT

NONE = ""
"""The kind of a distractor."""
SLOPE = HIT / 20
"""Score per position by which a later key beats an earlier one of the same class."""
LONGEST_CLAUSE = 9
"""Tokens; two clauses of one group are further apart."""
_VOCABULARY = Vocabulary()
_NAMES = ("Tom", "Lucy", "Ben", "Mia")
_PIVOTS = tuple(group.pivot for group in GROUPS)
_CONJUNCTIONS = tuple(GROUPS[group].conjunction for group in TOLD)


@dataclass(frozen=True)
class Bench:
    """A planted model and the kind of each of its heads (`NONE` for a distractor)."""

    model: HookedTransformer
    kinds: tuple[tuple[str, ...], ...]
    """[layer][head]."""


def bench(n_ctx: int, *, seed: int, bidirectional: bool = False, distractors: int = 10) -> Bench:
    """Two layers of planted heads; layer 1 also holds the kinds that need the previous token (induction, clauses).

    A bidirectional bench holds the kinds that need not be told to look back only (`EITHER_WAY`), and `next`.
    """
    shape = PlantedShape(len(_VOCABULARY), n_ctx)
    rng, generator = random.Random(f"bench:{seed}"), torch.Generator().manual_seed(seed)
    layers, kinds = [], []
    for layer in range(2):
        makers = KINDS | COMPOSED if layer else KINDS
        if bidirectional:
            makers = {"next": _offset(-1)} | {name: KINDS[name] for name in EITHER_WAY}
        heads = [(name, make(shape)) for name, make in makers.items()]
        count = distractors + (0 if layer or bidirectional else len(COMPOSED))
        heads += [(NONE, each) for each in distractors_of(shape, count, generator)]
        rng.shuffle(heads)
        kinds.append(tuple(name for name, _ in heads))
        layers.append(tuple(head for _, head in heads))
    model = PlantedModel(shape, tuple(layers), bidirectional=bidirectional, name=f"bench-{n_ctx}-{seed}")
    return Bench(model.build(), tuple(kinds))


def with_noise(model: HookedTransformer, ratio: float, *, seed: int) -> HookedTransformer:
    """A copy with Gaussian noise on W_Q, W_K, W_V, W_O of every head: each matrix's own Frobenius norm / `ratio`.

    Raises `ValueError` for a signal-to-noise ratio that is not positive.
    """
    if not ratio > 0:
        raise ValueError(f"ratio={ratio!r}: the signal-to-noise ratio must be positive")
    generator = torch.Generator().manual_seed(seed)
    noisy = HookedTransformer(model.cfg, model.tokenizer, init_weights=False)
    noisy.load_state_dict(model.state_dict())
    with torch.no_grad():
        for block in noisy.blocks:
            for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
                noise = torch.randn(weight.shape, generator=generator)
                norms = weight.norm(dim=(1, 2), keepdim=True)
                weight += noise * norms / (noise.norm(dim=(1, 2), keepdim=True) * ratio)
    return noisy.eval()


def _tokens(*words: str) -> tuple[int, ...]:
    return tuple(_VOCABULARY.ids(*words))


def _any_of(size: int, members: tuple[int, ...], score: float) -> Float[Tensor, " size"]:
    scores = torch.zeros(size)
    scores[list(members)] = score
    return scores


def _later(shape: PlantedShape) -> Float[Tensor, " n_ctx"]:
    return SLOPE * torch.arange(shape.n_ctx)


def _above_slope(shape: PlantedShape) -> float:
    """A score that no difference in position outweighs."""
    return SLOPE * shape.n_ctx + HIT


def _not_self(shape: PlantedShape, penalty: float = HIT) -> Rule:
    return Rule("P", "P", shape.offset(0, -2 * penalty))


def _same_clause_only(shape: PlantedShape) -> Rule:
    """A penalty on keys further away than any clause is long, and on the position itself."""
    position = torch.arange(shape.n_ctx)
    distance = (position[:, None] - position).abs()
    return Rule("P", "P", torch.where((distance > LONGEST_CLAUSE) | (distance == 0), -2 * HIT, 0.0))


def _offset(distance: int) -> Callable[[PlantedShape], PlantedHead]:
    return lambda shape: PlantedHead(qk=(Rule("P", "P", shape.offset(distance)),), sink=0.0)


def _previous(shape: PlantedShape) -> PlantedHead:
    head = previous_token_head(shape)
    return PlantedHead(qk=head.qk, ov=head.ov, sink=0.0)


def _recent(shape: PlantedShape) -> PlantedHead:
    scores = torch.stack([shape.offset(distance) for distance in range(1, RECENT + 1)]).sum(0)
    return PlantedHead(qk=(Rule("P", "P", scores),), sink=0.0)


def _first(shape: PlantedShape) -> PlantedHead:
    return PlantedHead(sink=HIT)


def _duplicate(shape: PlantedShape) -> PlantedHead:
    return PlantedHead(qk=(Rule("T", "T", shape.identity(HIT)), _not_self(shape)), sink=0.0)


def _induction(shape: PlantedShape) -> PlantedHead:
    return PlantedHead(qk=(Rule("T", "A", shape.identity(HIT)),), sink=0.0)


def _pivot(shape: PlantedShape) -> PlantedHead:
    pivots = _any_of(shape.vocab, _tokens(BOS, *_PIVOTS), _above_slope(shape))
    rules = (_not_self(shape, _above_slope(shape)),)
    return PlantedHead(qk=rules, keys=(("T", pivots), ("P", _later(shape))), sink=0.0)


def _clause_start(shape: PlantedShape) -> PlantedHead:
    """The latest token whose predecessor ends a clause; a closing speech mark belongs to the clause it closes."""
    starts = _any_of(shape.vocab, _tokens(BOS, *_PIVOTS, *_CONJUNCTIONS, CLOSING), _above_slope(shape))
    closing = _any_of(shape.vocab, _tokens(CLOSING), -_above_slope(shape))
    return PlantedHead(keys=(("A", starts), ("T", closing), ("P", _later(shape))), sink=0.0)


def _latest(shape: PlantedShape, queries: tuple[int, ...], keys: tuple[int, ...]) -> tuple[Rule, ...]:
    """From some tokens to the latest of some tokens; other queries are left alone."""
    positions = torch.zeros(shape.vocab, shape.n_ctx)
    positions[list(queries)] = _later(shape)
    return (word_to_word(shape, queries, keys, _above_slope(shape)), Rule("T", "P", positions))


def _opening_quote(shape: PlantedShape) -> PlantedHead:
    spoken = [token for group in SPEECH for token in _VOCABULARY.group(group) if token not in _tokens(OPENING)]
    return PlantedHead(qk=_latest(shape, tuple(spoken), _tokens(OPENING)), sink=0.0)


def _speaker(shape: PlantedShape) -> PlantedHead:
    return PlantedHead(qk=_latest(shape, _tokens(OPENING, CLOSING), _tokens(*_NAMES)), sink=0.0)


def _proper_noun(shape: PlantedShape) -> PlantedHead:
    names = _tokens(*_NAMES)
    return PlantedHead(qk=(word_to_word(shape, names, names), _not_self(shape)), sink=0.0)


def _within_groups(shape: PlantedShape, keys: Mapping[int, tuple[int, ...]]) -> Float[Tensor, "vocab vocab"]:
    return torch.stack(
        [word_to_word(shape, tuple(_VOCABULARY.group(group)), found).matrix for group, found in keys.items()]
    ).sum(0)


def _same_clause(shape: PlantedShape) -> PlantedHead:
    groups = {group: tuple(_VOCABULARY.group(group)) for group in range(len(GROUPS))}
    return PlantedHead(qk=(Rule("T", "T", _within_groups(shape, groups)), _same_clause_only(shape)), sink=0.0)


def _subject(shape: PlantedShape) -> PlantedHead:
    subjects = {group: _tokens(*words.subjects) for group, words in enumerate(GROUPS)}
    return PlantedHead(qk=(Rule("T", "T", _within_groups(shape, subjects)), _same_clause_only(shape)), sink=0.0)


def _conjunction(shape: PlantedShape) -> PlantedHead:
    """From a group's conjunction to the group before it, whose clause always precedes."""
    scores = torch.zeros(shape.vocab, shape.vocab)
    for group in TOLD:
        before = tuple(_VOCABULARY.group((group - 1) % len(TOLD)))
        scores += word_to_word(shape, _tokens(GROUPS[group].conjunction), before).matrix
    return PlantedHead(qk=(Rule("T", "T", scores), _same_clause_only(shape)), sink=0.0)


KINDS: dict[str, Callable[[PlantedShape], PlantedHead]] = {
    "current": _offset(0),
    "previous": _previous,
    "offset-2": _offset(2),
    "offset-3": _offset(3),
    "recent": _recent,
    "first": _first,
    "duplicate": _duplicate,
    "pivot": _pivot,
    "opening quote": _opening_quote,
    "speaker": _speaker,
    "proper noun": _proper_noun,
    "same clause": _same_clause,
    "subject": _subject,
    "conjunction": _conjunction,
}
"""Heads that need the token and its position only."""
COMPOSED: dict[str, Callable[[PlantedShape], PlantedHead]] = {"induction": _induction, "clause start": _clause_start}
"""Heads that read the previous token, which layer 0 writes."""
EITHER_WAY = ("current", "previous", "offset-2", "offset-3", "recent", "first", "duplicate", "subject", "conjunction")
"""Kinds whose scores single out the targets also where later keys are seen."""
