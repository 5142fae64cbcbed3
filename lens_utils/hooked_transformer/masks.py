"""Which keys a query sees, and which position each token has."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lens_utils.axes import Mask


def visible_keys(
    attention_mask: Mask | None, n_pos: int, *, causal: bool, window: int | None, device: torch.device
) -> Bool[Tensor, "#batch 1 query key"] | None:
    """True where the query may attend to the key; None when nothing beyond plain causality hides a key.

    A local layer sees the last `window` positions, itself included. A query always sees itself, so that rows of
    padding tokens stay finite.
    """
    if attention_mask is None and (window is None or window >= n_pos):
        return None
    distance = torch.arange(n_pos, device=device)[:, None] - torch.arange(n_pos, device=device)[None, :]
    visible = torch.ones(n_pos, n_pos, dtype=torch.bool, device=device)
    if causal:
        visible = visible & (distance >= 0)
    if window is not None:
        visible = visible & (distance.abs() < window)
    visible = visible[None, None]
    if attention_mask is not None:
        visible = (visible & attention_mask.bool()[:, None, None, :]) | (distance == 0)
    return visible


def token_positions(
    attention_mask: Mask | None, batch: int, n_pos: int, device: torch.device
) -> Int[Tensor, "batch pos"]:
    """Position of each token, counted over real tokens only, so that padding on either side shifts nothing."""
    if attention_mask is None:
        return torch.arange(n_pos, device=device).expand(batch, n_pos)
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
