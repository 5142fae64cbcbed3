"""What a model loses when neurons are fixed at their mean.

The loss is in nats a token. Causal models: next-token cross-entropy over all real tokens. Masked models: cross-entropy
of the true token where every fifth ordinary token of a text has been replaced by the mask token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import pad
from lens_utils.axes import Mask, MlpActivations, Tokens
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.loss import IGNORED
from lens_utils.prompts import TokenizedText

MASK_EVERY = 5
TOKENS_AT_ONCE = 1024
"""Tokens of one forward pass, over all groups in it: bounds the memory of the logits."""


@dataclass(frozen=True)
class LossInput:
    """Tokens on which a loss is defined, with labels for a masked model."""

    tokens: Tokens
    mask: Mask
    labels: Int[Tensor, "batch pos"] | None = None


@dataclass(frozen=True)
class AblationCurve:
    """Loss after mean-ablating growing groups of one layer's neurons."""

    layer: int
    sizes: tuple[int, ...]
    """Neurons ablated, from 0 to all."""
    ranked: Float64[Tensor, " size"]
    """Largest activation norm first; nats a token."""
    random: Float64[Tensor, "order size"]
    """The same sizes in random orders: the null."""
    order: Int[Tensor, " d_mlp"]
    """Neurons by activation norm, largest first."""


def loss_input(model: HookedTransformer, texts: Sequence[TokenizedText]) -> LossInput | None:
    """The texts as input to the loss; None where no token can be predicted (single tokens, no mask token)."""
    tokens, mask = pad(texts)
    if not model.cfg.is_masked:
        return LossInput(tokens, mask) if max(map(len, texts)) > 1 else None
    mask_token = getattr(model.tokenizer, "mask_token_id", None)
    if mask_token is None:
        return None
    hidden = torch.zeros_like(mask)
    for row, text in enumerate(texts):
        ordinary = [pos for pos, name in enumerate(text.classes) if name != "special"]
        hidden[row, ordinary[MASK_EVERY // 2 :: MASK_EVERY] or ordinary[:1]] = True
    if not hidden.any():
        return None
    return LossInput(torch.where(hidden, mask_token, tokens), mask, torch.where(hidden, tokens, IGNORED))


def mean_ablation(
    ablated: Bool[Tensor, "#batch d_mlp"], means: Float[Tensor, " d_mlp"]
) -> Callable[[MlpActivations, object], MlpActivations]:
    """Hook that fixes neurons at their means at every position; `ablated` may differ from row to row of the batch."""

    def ablate(activations: MlpActivations, hook: object) -> MlpActivations:
        return torch.where(ablated[:, None].to(activations.device), means.to(activations), activations)

    return ablate


def ablated_losses(
    model: HookedTransformer,
    given: LossInput,
    hook: str,
    *,
    groups: Bool[Tensor, "group d_mlp"],
    means: Float[Tensor, " d_mlp"],
) -> Float64[Tensor, " group"]:
    """Loss in nats a token with each group of neurons mean-ablated in turn; many groups share a forward pass."""
    n_texts, n_pos = given.tokens.shape
    at_once = max(1, TOKENS_AT_ONCE // (n_texts * n_pos))
    return torch.cat([_losses(model, given, hook, part, means) for part in groups.split(at_once)])


def _losses(
    model: HookedTransformer, given: LossInput, hook: str, groups: Tensor, means: Tensor
) -> Float64[Tensor, " group"]:
    def repeated(values: Tensor) -> Tensor:
        return repeat(values, "batch pos -> (group batch) pos", group=len(groups)).to(model.device)

    labels = None if given.labels is None else repeated(given.labels)
    rows = repeat(groups, "group neuron -> (group batch) neuron", batch=len(given.tokens))
    with torch.inference_mode(), model.hooks(fwd_hooks=[(hook, mean_ablation(rows, means))]):
        losses = model(
            repeated(given.tokens), "loss", attention_mask=repeated(given.mask), labels=labels, loss_per_token=True
        )
    counted = given.mask[:, 1:] & given.mask[:, :-1] if given.labels is None else given.labels != IGNORED
    each = rearrange(losses.double().cpu(), "(group batch) pos -> group (batch pos)", group=len(groups))
    return each.sum(1) / counted.sum()


def ablation_curve(
    model: HookedTransformer,
    given: LossInput,
    layer: int,
    *,
    activations: Float[Tensor, "sample d_mlp"],
    seed: int,
    n_orders: int = 20,
) -> AblationCurve:
    """Loss over group size: neurons by activation norm (L2 over `activations`' tokens), and in random orders.

    A neuron's mean is over the same tokens. Sizes are 0, 1, 2, 4, ... and all neurons.
    """
    d_mlp = activations.shape[1]
    order = activations.double().norm(dim=0).argsort(descending=True, stable=True).cpu()
    sizes = [0, *(2**i for i in range(d_mlp.bit_length()) if 2**i < d_mlp), d_mlp]
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([order, *(torch.randperm(d_mlp, generator=generator) for _ in range(n_orders))])
    # ranks[i, n]: at which place order i has neuron n, so that a group of size s is ranks < s
    ranks = orders.argsort(dim=1)
    groups = ranks[:, None] < torch.tensor(sizes)[:, None]
    # No neurons and all neurons are the same groups in any order: they are run once
    inner = rearrange(groups[:, 1:-1], "order size neuron -> (order size) neuron")
    ends = groups[0, [0, -1]]
    hook, means = hook_names.mlp_post(layer), activations.mean(0)
    losses = ablated_losses(model, given, hook, groups=torch.cat([ends, inner]), means=means)
    middle = rearrange(losses[2:], "(order size) -> order size", order=n_orders + 1)
    table = torch.cat([losses[:1].expand(n_orders + 1, 1), middle, losses[1:2].expand(n_orders + 1, 1)], dim=1)
    return AblationCurve(layer, tuple(sizes), table[0], table[1:], order)
