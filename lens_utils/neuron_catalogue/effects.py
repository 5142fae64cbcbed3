"""What the model loses when one neuron alone is held at its mean."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation import LossInput, ablated_text_losses, mean_ablation
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.statistics import bootstrap_interval, sign_flip_p_values

FLIPS = 20_000
"""Sign flips over texts: p is at least 1 / (FLIPS + 1), as correction for thousands of neurons needs."""


@dataclass(frozen=True)
class AblationEffects:
    """Rise of the loss with each neuron of one block mean-ablated alone; nats a token, above 0 where it helps."""

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


def ablation_effects(
    model: HookedTransformer, given: LossInput, layer: int, *, means: Float[Tensor, " neuron"], seed: int
) -> AblationEffects:
    """Mean ablation of every neuron of the block in turn, against the whole model on the same texts.

    A text's rise is weighted by its predicted tokens, so that the mean over texts is the rise per token.
    """
    neurons = torch.eye(len(means), dtype=torch.bool)
    groups = torch.cat([torch.zeros_like(neurons[:1]), neurons])
    losses = ablated_text_losses(model, given, layer, groups=groups, means=means)
    weighted = (losses.total[1:] - losses.total[0]) / losses.predicted.double().mean()
    rise, n_texts = weighted.mean(1), weighted.shape[1]
    low, high = torch.full_like(rise, torch.nan), torch.full_like(rise, torch.nan)
    if n_texts > 1:
        found = [bootstrap_interval(row, seed=seed, n_resamples=1000) for row in weighted]
        low, high = (torch.tensor([getattr(each, end) for each in found]).double() for end in ("low", "high"))
    p = sign_flip_p_values(weighted.T, seed=seed, n_shuffles=FLIPS)
    loss = float(losses.per_token[0])
    return AblationEffects(loss, rise, low, high, p, n_texts, int(losses.predicted.sum()))


def ablation_identity(
    model: HookedTransformer, given: LossInput, layer: int, effects: AblationEffects, means: Float[Tensor, " neuron"]
) -> Identity:
    """The strongest neuron's loss, and the whole model's, when the model is run from the tokens with a hook."""
    neuron = int(effects.rise.abs().argmax())
    scored = given.scored
    expected = [effects.loss, effects.loss + float(effects.rise[neuron])]
    error = 0.0
    for group, value in zip(([], [neuron]), expected, strict=True):
        ablated = torch.zeros(1, len(means), dtype=torch.bool)
        ablated[0, group] = True
        hook = (hook_names.mlp_post(layer), mean_ablation(ablated, means))
        run = {"attention_mask": given.mask.to(model.device)}
        with torch.inference_mode(), model.hooks(fwd_hooks=[hook]):
            logits = model(given.tokens.to(model.device), **run)[scored.to(model.device)]
        losses = -logits.log_softmax(-1).double().cpu().gather(1, given.answers.unsqueeze(1))
        error = max(error, abs(float(losses.mean()) - value))
    statement = "loss from the block on = loss from the tokens with a hook: whole, and without the strongest neuron"
    return Identity("ablation from the block on", f"{statement} (nats)", error, 1e-4)
