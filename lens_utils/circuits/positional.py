"""Which distances a head prefers: its scores between positions alone, and its attention on text."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import cache_hooks
from lens_utils.circuits.weights import centred, check_attention
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.masks import visible_keys
from lens_utils.prompts import TokenizedText


@dataclass(frozen=True)
class OffsetPreference:
    """By how many positions back, 0 being the query itself; means over the queries that have such a key."""

    scores: Float64[Tensor, "head offset"]
    """Score between positions alone above the mean of the row, in nats."""
    by_position: Float64[Tensor, "head offset"]
    """Attention that these scores alone would give."""
    on_text: Float64[Tensor, "head offset"]
    """Attention on the texts."""


def has_positions(model: HookedTransformer) -> bool:
    """Whether queries and keys read a position embedding."""
    return model.cfg.positional_embedding_type != "none"


def positional_scores(
    model: HookedTransformer, layer: int, *, scale: float, n_pos: int
) -> Float[Tensor, "head query key"]:
    """(p W_Q / s + b_Q) (p' W_K / s + b_K)^T / divisor between the first n_pos positions; masked ones are -inf.

    Raises `ValueError` for a model without position embeddings.
    """
    check_attention(model)
    if not has_positions(model):
        raise ValueError(f"model {model.cfg.model_name!r} has no position embeddings: no scores between positions")
    cfg, attn = model.cfg, model.blocks[layer].attn
    rows = model.W_pos.detach()[:n_pos]
    rows = rows if cfg.positional_embedding_type == "shortformer" else centred(model, rows) / scale
    queries = (rows @ attn.W_Q.detach()) + attn.b_Q.detach()[:, None]
    keys = (rows @ attn.W_K.detach()) + attn.b_K.detach()[:, None]
    scores = queries @ keys.transpose(1, 2) / attn.score_divisor
    window = cfg.window_size if cfg.use_local_attn and cfg.attn_types and cfg.attn_types[layer] == "local" else None
    visible = visible_keys(None, n_pos, causal=not cfg.is_masked, window=window, device=rows.device)
    if visible is None:
        visible = torch.ones(n_pos, n_pos, dtype=torch.bool, device=rows.device)
        visible = visible if cfg.is_masked else visible.tril()
    return scores.masked_fill(~visible.reshape(n_pos, n_pos), -torch.inf)


def offset_preference(
    model: HookedTransformer,
    layer: int,
    texts: Sequence[TokenizedText],
    *,
    scale: float,
    n_pos: int = 64,
    n_offsets: int = 16,
) -> OffsetPreference:
    """Scores, implied attention and attention on text at the distances 0 to n_offsets - 1, of every head of a layer."""
    n_pos = min(n_pos, model.cfg.n_ctx)
    scores = positional_scores(model, layer, scale=scale, n_pos=n_pos).double().cpu()
    visible = scores > -torch.inf
    means = torch.where(visible, scores, 0.0).sum(-1, keepdim=True) / visible.sum(-1, keepdim=True)
    above = torch.where(visible, scores - means, 0.0)
    hook = hook_names.pattern(layer)
    patterns = [cache_hooks(model, [text], [hook]).cache[hook][0].double().cpu() for text in texts]
    return OffsetPreference(
        _by_offset([above], n_offsets), _by_offset([scores.softmax(-1)], n_offsets), _by_offset(patterns, n_offsets)
    )


def _by_offset(matrices: Sequence[Float64[Tensor, "head _ _"]], n: int) -> Float64[Tensor, "head offset"]:
    """Mean of each lower diagonal over all matrices; nan where none is large enough."""
    columns = []
    for offset in range(n):
        diagonals = [each.diagonal(-offset, 1, 2) for each in matrices if each.shape[1] > offset]
        cells = torch.cat(diagonals, dim=1) if diagonals else matrices[0].new_zeros(len(matrices[0]), 0)
        columns.append(cells.mean(1))
    return torch.stack(columns, dim=1)
