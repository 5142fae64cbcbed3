"""What a model loses when neurons are fixed at their mean.

The loss is in nats a token. Causal models: next-token cross-entropy over all real tokens. Masked models: cross-entropy
of the true token where every fifth ordinary token of a text has been replaced by the mask token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

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
    most: int | None = None
    """Predicted tokens of a text that `scored` keeps, spread evenly over it; None keeps all."""

    @property
    def scored(self) -> Bool[Tensor, "batch pos"]:
        """Positions whose logits enter the loss: those before a token, or the masked ones."""
        if self.labels is not None:
            every = self.labels != IGNORED
        else:
            every = torch.zeros_like(self.mask, dtype=torch.bool)
            every[:, :-1] = self.mask[:, 1:] & self.mask[:, :-1]
        if self.most is None:
            return every
        count = every.sum(1, keepdim=True).clamp(min=1)
        rank = every.cumsum(1) - 1
        share = torch.minimum(count, torch.tensor(self.most))
        return every & (rank * share // count != (rank - 1) * share // count)

    @property
    def answers(self) -> Int[Tensor, " predicted"]:
        """The token that each scored position has to predict, text by text."""
        return self.tokens.roll(-1, dims=1)[self.scored] if self.labels is None else self.labels[self.scored]


@dataclass(frozen=True)
class TextLosses:
    """The loss of each text under each ablation."""

    total: Float64[Tensor, "group text"]
    """Summed over the text's predicted tokens; nats."""
    predicted: Int[Tensor, " text"]
    """Predicted tokens of each text."""

    @property
    def per_token(self) -> Float64[Tensor, " group"]:
        """Mean over all predicted tokens; nats a token."""
        return self.total.sum(1) / self.predicted.sum()


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
    layer: int,
    *,
    groups: Bool[Tensor, "group d_mlp"],
    means: Float[Tensor, " d_mlp"],
) -> Float64[Tensor, " group"]:
    """Loss in nats a token with each group of neurons of the block mean-ablated in turn."""
    return ablated_text_losses(model, given, layer, groups=groups, means=means).per_token


def ablated_text_losses(
    model: HookedTransformer,
    given: LossInput,
    layer: int,
    *,
    groups: Bool[Tensor, "group d_mlp"],
    means: Float[Tensor, " d_mlp"],
) -> TextLosses:
    """Loss of each text with each group of neurons of the block mean-ablated in turn, many groups a forward pass.

    What comes before the block's residual addition is run once: each group adds its (mean - activation) W_out there.
    Behind the last block only positions that predict are run.
    """
    scored, last = given.scored, layer == model.cfg.n_layers - 1
    hooks = [hook_names.mlp_post(layer), hook_names.resid_post(layer)]
    with torch.inference_mode():
        _, cache = model.run_with_cache(
            given.tokens.to(model.device), None, attention_mask=given.mask.to(model.device), names_filter=hooks
        )
        post, leaving = (cache[hook] for hook in hooks)
        shift = means.to(post) - post
        if last:
            shift, leaving = (values[scored.to(post.device)].unsqueeze(1) for values in (shift, leaving))
        at_once = max(1, TOKENS_AT_ONCE // (leaving.shape[0] * leaving.shape[1]))
        parts = []
        for part in groups.to(post.device).split(at_once):
            resid = _ablated_resid(model, layer, leaving, shift, part)
            parts.append(_losses(model, given, resid if last else _run_on(model, given, layer + 1, resid)))
    owner = scored.nonzero()[:, 0]
    total = torch.zeros(len(groups), len(scored), dtype=torch.float64).index_add(1, owner, torch.cat(parts))
    return TextLosses(total, scored.sum(1))


def _ablated_resid(
    model: HookedTransformer, layer: int, leaving: Tensor, shift: Tensor, groups: Tensor
) -> Float[Tensor, "rows pos d_model"]:
    """What leaves the block with each group ablated, group by group."""
    block: Any = model.blocks[layer]
    changed = groups.any(0).nonzero().flatten()
    written = groups[:, changed, None] * block.mlp.W_out[changed]
    resid = leaving + einsum(shift[..., changed], written, "batch pos n, group n m -> group batch pos m")
    return block.after_mlp(resid.flatten(0, 1))


def _run_on(model: HookedTransformer, given: LossInput, layer: int, resid: Tensor) -> Float[Tensor, "rows 1 d_model"]:
    """The residual stream after the last block at the positions that predict, each a row of its own."""
    n_groups = len(resid) // len(given.mask)
    mask, scored = (values.to(resid.device).repeat(n_groups, 1) for values in (given.mask, given.scored))
    end = model(resid, start_at_layer=layer, stop_at_layer=model.cfg.n_layers, attention_mask=mask)
    return end[scored].unsqueeze(1)


def _losses(model: HookedTransformer, given: LossInput, rows: Tensor) -> Float64[Tensor, "group predicted"]:
    answers = given.answers.to(rows.device)
    logits = model(rows, start_at_layer=model.cfg.n_layers).squeeze(1)
    losses = cross_entropy(logits, answers.repeat(len(rows) // len(answers)), reduction="none")
    return losses.double().cpu().view(-1, len(answers))


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
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([order, *(torch.randperm(d_mlp, generator=generator) for _ in range(n_orders))])
    sizes, groups = growing_groups(orders)
    # No neurons and all neurons are the same groups in any order: they are run once
    inner = rearrange(groups[:, 1:-1], "order size neuron -> (order size) neuron")
    ends = groups[0, [0, -1]]
    losses = ablated_losses(model, given, layer, groups=torch.cat([ends, inner]), means=activations.mean(0))
    middle = rearrange(losses[2:], "(order size) -> order size", order=n_orders + 1)
    table = torch.cat([losses[:1].expand(n_orders + 1, 1), middle, losses[1:2].expand(n_orders + 1, 1)], dim=1)
    return AblationCurve(layer, sizes, table[0], table[1:], order)


def growing_groups(
    orders: Int[Tensor, "order d_mlp"],
) -> tuple[tuple[int, ...], Bool[Tensor, "order size d_mlp"]]:
    """Sizes 0, 1, 2, 4, ... and all; and of each order its first so many neurons."""
    d_mlp = orders.shape[1]
    sizes = (0, *(2**i for i in range(d_mlp.bit_length()) if 2**i < d_mlp), d_mlp)
    # ranks[i, n]: at which place order i has neuron n, so that a group of size s is ranks < s
    ranks = orders.argsort(dim=1)
    return sizes, ranks[:, None] < torch.tensor(sizes)[:, None]
