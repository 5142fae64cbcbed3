"""Circuits written by formula, without training: models whose every score is known in advance.

The residual stream is a direct sum of one-hot subspaces: T holds the current token, P its position, A what a first
layer's heads write, O what the unembedding reads (d_model = 3 vocab + n_ctx). W_E and W_pos are identities into T and
P, W_U is `beta` times the identity from O; there is neither LayerNorm nor MLP. A head is a list of QK and OV rules:

- a QK rule is a matrix M between two subspaces, and the attention score of query a and key b is exactly M[a, b];
- an OV rule is a matrix M between two subspaces, and attending to b adds row b of M to the target subspace.

Scores of `HIT` make the softmax exactly 0 or 1 in floating point. A sink adds half of that to the first position, where
a head goes that finds nothing. Texts for these models start with a token of their own (beginning of text): position 0
can only attend to itself, so what a head writes there is about that token, and must match nothing later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils.hooked_transformer import HookedTransformer, HookedTransformerConfig
from lens_utils.hooked_transformer.components import Attention

HIT = 240.0
"""Half of it lies below float32: e^-120 is 0, so that a hit against the sink is exactly 1 to 0."""
BETA = 10.0
"""Logit that one unit in subspace O gives its token."""
SUBSPACES = ("T", "P", "A", "O")


@dataclass(frozen=True)
class Rule:
    """A matrix between two subspaces: score M[a, b] of query a and key b, or output M[b] of source b."""

    source: str
    target: str
    matrix: Float[Tensor, "source target"]


@dataclass(frozen=True)
class PlantedHead:
    """A head as rules: `qk` from the query's to the key's subspace, `ov` from what is read to what is written."""

    qk: tuple[Rule, ...] = ()
    ov: tuple[Rule, ...] = ()
    keys: tuple[tuple[str, Float[Tensor, " _"]], ...] = ()
    """(subspace, score of each of its directions): what a key adds whatever the query."""
    sink: float = HIT / 2
    """Extra score of the first position; 0 for none."""


@dataclass(frozen=True)
class PlantedShape:
    """Sizes that a planted model's matrices share."""

    vocab: int
    n_ctx: int

    @property
    def sizes(self) -> dict[str, int]:
        """Dimensions of each subspace."""
        return {"T": self.vocab, "P": self.n_ctx, "A": self.vocab, "O": self.vocab}

    @property
    def d_model(self) -> int:
        """Dimensions of the residual stream."""
        return sum(self.sizes.values())

    @property
    def d_head(self) -> int:
        """Dimensions of a head: room for one rule on tokens, one on positions, and the sink."""
        return self.vocab + self.n_ctx + 2

    def span(self, subspace: str) -> slice:
        """Where a subspace lies in the residual stream; an unknown name is an error."""
        if subspace not in self.sizes:
            raise ValueError(f"subspace={subspace!r}: choose one of {', '.join(SUBSPACES)}")
        start = sum(self.sizes[name] for name in SUBSPACES[: SUBSPACES.index(subspace)])
        return slice(start, start + self.sizes[subspace])

    def identity(self, scale: float = 1.0) -> Float[Tensor, "vocab vocab"]:
        """`scale` times the identity over tokens."""
        return scale * torch.eye(self.vocab)

    def offset(self, distance: int, scale: float = HIT) -> Float[Tensor, "n_ctx n_ctx"]:
        """Score `scale` from each position to the one `distance` before it (negative: after it)."""
        return scale * torch.diag(torch.ones(self.n_ctx - abs(distance)), -distance)


@dataclass(frozen=True)
class PlantedModel:
    """A planted model and what it was planted with."""

    shape: PlantedShape
    layers: tuple[tuple[PlantedHead, ...], ...]
    beta: float = BETA
    bidirectional: bool = False
    name: str = field(default="planted")

    def build(self) -> HookedTransformer:
        """The HookedTransformer; every layer must have the same number of heads."""
        counts = {len(heads) for heads in self.layers}
        if len(counts) > 1:
            raise ValueError(f"layers have {[len(heads) for heads in self.layers]} heads: give each the same number")
        shape = self.shape
        cfg = HookedTransformerConfig(
            n_layers=len(self.layers),
            d_model=shape.d_model,
            n_ctx=shape.n_ctx,
            d_head=shape.d_head,
            n_heads=counts.pop() if counts else 1,
            d_vocab=shape.vocab,
            attn_only=True,
            normalization_type=None,
            attention_dir="bidirectional" if self.bidirectional else "causal",
            default_prepend_bos=False,
            model_name=self.name,
        )
        model = HookedTransformer(cfg, init_weights=False)
        with torch.no_grad():
            model.embed.W_E[:, shape.span("T")] = shape.identity()
            model.pos_embed.W_pos[:, shape.span("P")] = torch.eye(shape.n_ctx)
            model.unembed.W_U[shape.span("O")] = shape.identity(self.beta)
            for block, heads in zip(model.blocks, self.layers, strict=True):
                for index, head in enumerate(heads):
                    _write_qk(block.attn, index, head, shape)
                    _write_ov(block.attn, index, head, shape)
        return model.eval()


def _write_qk(attn: Attention, index: int, head: PlantedHead, shape: PlantedShape) -> None:
    """Rules that read the same query subspace share its coordinates, so a head has room for any of them."""
    divisor = shape.d_head**0.5
    starts = _starts(head.qk, shape, shape.d_head - 1)
    for rule in head.qk:
        size = shape.sizes[rule.source]
        coordinates = slice(starts[rule.source], starts[rule.source] + size)
        attn.W_Q[index, shape.span(rule.source), coordinates] = divisor * torch.eye(size)
        attn.W_K[index, shape.span(rule.target), coordinates] += rule.matrix.T
    attn.b_Q[index, shape.d_head - 1] = divisor
    attn.W_K[index, shape.span("P").start, shape.d_head - 1] = head.sink
    for subspace, scores in head.keys:
        attn.W_K[index, shape.span(subspace), shape.d_head - 1] += scores


def _write_ov(attn: Attention, index: int, head: PlantedHead, shape: PlantedShape) -> None:
    starts = _starts(head.ov, shape, shape.d_head)
    for rule in head.ov:
        size = shape.sizes[rule.source]
        coordinates = slice(starts[rule.source], starts[rule.source] + size)
        attn.W_V[index, shape.span(rule.source), coordinates] = torch.eye(size)
        attn.W_O[index, coordinates, shape.span(rule.target)] += rule.matrix


def _starts(rules: Sequence[Rule], shape: PlantedShape, room: int) -> dict[str, int]:
    """The first of a head's coordinates for each source subspace; rules that do not fit are refused."""
    starts: dict[str, int] = {}
    used = 0
    for rule in rules:
        _check_rule(rule, shape)
        if rule.source not in starts:
            starts[rule.source] = used
            used += shape.sizes[rule.source]
    if used > room:
        raise ValueError(f"rules from {', '.join(starts)}: need {used} dimensions, the head has {room}")
    return starts


def _check_rule(rule: Rule, shape: PlantedShape) -> None:
    needed = [shape.sizes[name] for name in (rule.source, rule.target) if shape.span(name)]
    if list(rule.matrix.shape) != needed:
        raise ValueError(
            f"rule {rule.source} -> {rule.target}: matrix has shape {list(rule.matrix.shape)}, needs {needed}"
        )
