"""What the model loses when one neuron alone is held at its mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation import LossInput, TextLosses, ablated_text_losses, loss_input, mean_ablation
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.prompts import TokenizedText, length_batches
from lens_utils.statistics import bootstrap_interval, sign_flip_p_values

FLIPS = 20_000
"""Sign flips over texts: p is at least 1 / (FLIPS + 1), as correction for thousands of neurons needs."""
TOKENS_TOGETHER = 1024
"""Padded tokens of the texts that are run together."""


@dataclass(frozen=True)
class AblationEffects:
    """Rise of the loss with neurons mean-ablated, each alone; nats a token, above 0 where it helps."""

    loss: float
    """Of the whole model on the same tokens."""
    rise: Float64[Tensor, " neuron"]
    low: Float64[Tensor, " neuron"]
    high: Float64[Tensor, " neuron"]
    """95 % bootstrap interval over texts; nan with one text."""
    p: Float64[Tensor, " neuron"]
    """Two-sided, signs of the texts' rises flipped."""
    n_texts: int
    n_predicted: int


def loss_parts(model: HookedTransformer, texts: Sequence[TokenizedText], *, most: int | None) -> tuple[LossInput, ...]:
    """The texts as inputs to the loss, those of similar length together, so that little padding is run.

    `most` bounds the predicted tokens of a text (None: all). Raises `ValueError` where no token can be predicted.
    """
    batches = length_batches(texts, max_tokens=TOKENS_TOGETHER, window=max(1, len(texts)))
    found = [given for batch in batches if (given := loss_input(model, batch)) is not None]
    if not found:
        raise ValueError("texts: no token of the sample can be predicted; give texts of more than one token")
    return tuple(replace(given, most=most) for given in found)


def ablation_effects(
    model: HookedTransformer,
    parts: Sequence[LossInput],
    layer: int,
    *,
    means: Float[Tensor, " d_mlp"],
    seed: int,
    neurons: Sequence[int] | None = None,
) -> AblationEffects:
    """Mean ablation of the block's neurons (all, or those given) in turn, against the whole model on the same texts.

    A text's rise is weighted by its predicted tokens, so that the mean over texts is the rise per token. Texts without
    a predicted token do not count.
    """
    every = torch.eye(len(means), dtype=torch.bool)
    groups = torch.cat([torch.zeros_like(every[:1]), every if neurons is None else every[list(neurons)]])
    found = [ablated_text_losses(model, given, layer, groups=groups, means=means) for given in parts]
    predicted = torch.cat([each.predicted for each in found])
    asked = predicted > 0
    losses = TextLosses(torch.cat([each.total for each in found], dim=1)[:, asked], predicted[asked])
    weighted = (losses.total[1:] - losses.total[0]) / losses.predicted.double().mean()
    rise, n_texts = weighted.mean(1), weighted.shape[1]
    low, high = torch.full_like(rise, torch.nan), torch.full_like(rise, torch.nan)
    if n_texts > 1:
        bounds = [bootstrap_interval(row, seed=seed, n_resamples=1000) for row in weighted]
        low, high = (
            torch.tensor([getattr(each, end) for each in bounds], dtype=torch.float64) for end in ("low", "high")
        )
    p = sign_flip_p_values(weighted.T, seed=seed, n_shuffles=FLIPS)
    loss = float(losses.per_token[0])
    return AblationEffects(loss, rise, low, high, p, n_texts, int(losses.predicted.sum()))


def ablation_identity(
    model: HookedTransformer,
    parts: Sequence[LossInput],
    layer: int,
    effects: AblationEffects,
    means: Float[Tensor, " d_mlp"],
) -> Identity:
    """The strongest neuron's loss, and the whole model's, when the model is run from the tokens with a hook."""
    neuron = int(effects.rise.abs().argmax())
    error = 0.0
    for group, value in (([], effects.loss), ([neuron], effects.loss + float(effects.rise[neuron]))):
        ablated = torch.zeros(1, len(means), dtype=torch.bool)
        ablated[0, group] = True
        losses = torch.cat([_plain_losses(model, given, layer, mean_ablation(ablated, means)) for given in parts])
        error = max(error, abs(float(losses.mean()) - value))
    statement = "loss from the block on = loss from the tokens with a hook: whole, and without the strongest neuron"
    return Identity("ablation from the block on", f"{statement} (nats)", error, 1e-4)


def _plain_losses(
    model: HookedTransformer, given: LossInput, layer: int, hook: Callable[..., Tensor]
) -> Float64[Tensor, " predicted"]:
    mask = given.mask.to(model.device)
    with torch.inference_mode(), model.hooks(fwd_hooks=[(hook_names.mlp_post(layer), hook)]):
        logits = model(given.tokens.to(model.device), attention_mask=mask)[given.scored.to(model.device)]
    return -logits.log_softmax(-1).double().cpu().gather(1, given.answers.unsqueeze(1)).squeeze(1)
