"""Skip-trigrams `A ... B -> C` of single heads, mined from weights: at B the head attends to A, and A's value raises C.

The QK part is the score of query B with key A above its mean over the candidate keys (nats), the OV part the logit of C
above the mean logit (nats) when all attention is on A. Trigrams are ranked by their product, both parts positive. That
says nothing yet on what the model does on text, where positions, other keys and other heads count: see trigram_check.

A head's QK part knows nothing of C and its OV part nothing of B. So a head that raises C1 at A ... B1 and C2 at
A ... B2 must also raise C2 at A ... B1 and C1 at A ... B2, wanted or not (Elhage et al. 2021: keep ... in mind and
keep ... at bay cross over).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.circuits.token_circuits import TokenCircuit, ov_circuit, qk_circuit, row_extremes
from lens_utils.circuits.weights import Scales
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText


@dataclass(frozen=True)
class SkipTrigram:
    """At token `current`, with `source` somewhere before, head L{layer}H{head} raises `predicted`."""

    layer: int
    head: int
    source: int
    current: int
    predicted: int
    qk: float
    """Score of `current` with `source` above the mean over candidate keys, in nats."""
    ov: float
    """Logit of `predicted` above the mean when all attention is on `source`, in nats."""

    @property
    def copies(self) -> bool:
        """Whether the predicted token is the source itself."""
        return self.source == self.predicted

    def with_ends(self, current: "SkipTrigram", predicted: "SkipTrigram") -> "SkipTrigram":
        """The trigram of the same head and source with B (and its QK part) of one and C (and OV part) of the other."""
        return replace(self, current=current.current, qk=current.qk, predicted=predicted.predicted, ov=predicted.ov)


def candidate_tokens(texts: Sequence[TokenizedText], *, least: int) -> Int[Tensor, " token"]:
    """Words and marks that occur at least `least` times in the texts: the embeddings of rarer ones are hardly trained.

    Special tokens and pieces of words are left out. Raises `ValueError` when there are fewer than 3.
    """
    words = [
        int(token)
        for text in texts
        for token, name in zip(text.tokens, text.classes, strict=True)
        if name not in ("special", "piece")
    ]
    tokens, counts = torch.tensor(words, dtype=torch.long).unique(return_counts=True)
    kept = tokens[counts >= least]
    if len(kept) < 3:
        raise ValueError(f"least={least!r}: only {len(kept)} tokens occur so often in the texts; ask for less")
    return kept


def mine(
    model: HookedTransformer,
    layer: int,
    head: int,
    candidates: Int[Tensor, " token"],
    *,
    scales: Scales,
    top: int = 10,
    per_source: int = 2,
) -> tuple[SkipTrigram, ...]:
    """The `top` skip-trigrams of one head among the candidates, at most `per_source` with the same source."""
    parts = head_parts(model, layer, head, candidates, scales=scales)
    queries = row_extremes(parts[0], per_source)
    outputs = row_extremes(parts[1], per_source)
    products = queries.values.clamp(min=0).unsqueeze(2) * outputs.values.clamp(min=0).unsqueeze(1)
    width = products.shape[2]
    best = products.flatten(1).topk(min(per_source, products[0].numel()), dim=1)
    order = best.values.flatten().argsort(descending=True, stable=True)[:top].tolist()
    found = []
    for place in order:
        row, rank = divmod(place, best.values.shape[1])
        if best.values[row, rank] <= 0:
            break
        b, c = divmod(int(best.indices[row, rank]), width)
        current, predicted = int(candidates[queries.columns[row, b]]), int(candidates[outputs.columns[row, c]])
        parts_of = float(queries.values[row, b]), float(outputs.values[row, c])
        found.append(SkipTrigram(layer, head, int(candidates[row]), current, predicted, *parts_of))
    return tuple(found)


def head_parts(
    model: HookedTransformer, layer: int, head: int, candidates: Int[Tensor, " token"], *, scales: Scales
) -> tuple[TokenCircuit, TokenCircuit]:
    """QK part [source, current] and OV part [source, predicted] over the candidates.

    The QK part is above the mean over candidate sources, the OV part above the mean over the whole vocabulary.
    """
    tokens = candidates.to(model.device)
    qk = qk_circuit(model, layer, head, scale=scales.before[layer])
    keys = qk.right[:, tokens]
    above = (keys - keys.mean(1, keepdim=True)).T.contiguous()
    ov = ov_circuit(model, layer, head, scale=scales.before[layer] * scales.final)
    outputs = (ov.right - ov.right.mean(1, keepdim=True))[:, tokens].contiguous()
    return TokenCircuit(above, qk.left[tokens].T.contiguous()), TokenCircuit(ov.left[tokens], outputs)


@dataclass(frozen=True)
class Crossing:
    """Two trigrams of one head and source that the texts show, and the two that the head then raises unasked."""

    wanted: tuple[SkipTrigram, SkipTrigram]
    unwanted: tuple[SkipTrigram, SkipTrigram]
    seen: tuple[int, int]
    """How often C followed B with A before it in the texts, for the wanted ones; for the unwanted ones never."""

    @property
    def strength(self) -> float:
        """Smallest product of QK and OV part of the four."""
        return min(each.qk * each.ov for each in (*self.wanted, *self.unwanted))


def crossings(
    model: HookedTransformer,
    layer: int,
    head: int,
    candidates: Int[Tensor, " token"],
    texts: Sequence[TokenizedText],
    *,
    scales: Scales,
    sources: int = 40,
    width: int = 8,
    least: int = 2,
) -> tuple[Crossing, ...]:
    """One crossing for each of up to `sources` sources of strongest trigrams, strongest crossing first.

    Among the `width` tokens B that attend most to A and the `width` tokens C that A raises most, two pairs that occur
    at least `least` times each, while neither crossed pair ever does.
    """
    parts = head_parts(model, layer, head, candidates, scales=scales)
    width = min(width, len(candidates))
    queries, outputs = row_extremes(parts[0], width), row_extremes(parts[1], width)
    strength = queries.values[:, 0].clamp(min=0) * outputs.values[:, 0].clamp(min=0)
    found = []
    for row in strength.argsort(descending=True, stable=True)[:sources].tolist():
        source = int(candidates[row])
        currents = _ends(queries.values[row], candidates[queries.columns[row].cpu()])
        predicted = _ends(outputs.values[row], candidates[outputs.columns[row].cpu()])
        if len(currents) >= 2 and len(predicted) >= 2:
            seen = follow_counts(texts, source, list(currents), list(predicted))
            trigrams = {
                (b, c): SkipTrigram(layer, head, source, b, c, currents[b], predicted[c])
                for b in currents
                for c in predicted
            }
            found += _strongest(trigrams, seen, least)
    return tuple(sorted(found, key=lambda each: -each.strength))


def _ends(values: Float[Tensor, " rank"], tokens: Int[Tensor, " rank"]) -> dict[int, float]:
    """Tokens with a positive part."""
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return {token: value for token, value in pairs if value > 0}


def _strongest(
    trigrams: dict[tuple[int, int], SkipTrigram], seen: dict[tuple[int, int], int], least: int
) -> list[Crossing]:
    shown = [pair for pair in trigrams if seen.get(pair, 0) >= least]
    found = []
    for (b1, c1), (b2, c2) in combinations(shown, 2):
        crossed = ((b1, c2), (b2, c1))
        if b1 != b2 and c1 != c2 and not any(seen.get(pair, 0) for pair in crossed):
            wanted = trigrams[b1, c1], trigrams[b2, c2]
            unwanted = trigrams[crossed[0]], trigrams[crossed[1]]
            found.append(Crossing(wanted, unwanted, (seen[b1, c1], seen[b2, c2])))
    return sorted(found, key=lambda each: -each.strength)[:1]


def follow_counts(
    texts: Sequence[TokenizedText], source: int, currents: Sequence[int], predicted: Sequence[int] | None = None
) -> dict[tuple[int, int], int]:
    """How often each predicted token (None: any) followed each current one directly with `source` before it."""
    b = torch.tensor(list(currents))
    c = None if predicted is None else torch.tensor(list(predicted))
    counts: dict[tuple[int, int], int] = {}
    for text in texts:
        first = (text.tokens == source).nonzero()
        if not len(first):
            continue
        here, after = text.tokens[:-1], text.tokens[1:]
        hit = torch.isin(here, b)
        if c is not None:
            hit &= torch.isin(after, c)
        hit[: int(first[0]) + 1] = False
        for pair in zip(here[hit].tolist(), after[hit].tolist(), strict=True):
            counts[pair] = counts.get(pair, 0) + 1
    return counts
