"""The training loop: AdamW, a warm-up, a constant stretch, a linear decay."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lens_utils.progress import track
from lens_utils.zoo.recipes import Recipe

logger = logging.getLogger(__name__)


@dataclass
class History:
    """Mean loss of each stretch of steps, and how long it all took."""

    losses: dict[int, float] = field(default_factory=dict)
    """By the last step of the stretch, in nats."""
    seconds: float = 0.0


def rate_factor(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate at a step (from 0) as a share of the recipe's: linear up, constant, linear down to a twentieth."""
    up = min(1.0, (step + 1) / recipe.warm_up)
    turn = recipe.decay_from * steps
    down = 1.0 if step < turn else 1.0 - 0.95 * (step - turn) / max(1.0, steps - turn)
    return min(up, down)


def optimise(
    network: nn.Module, loss_at: Callable[[int], Tensor], recipe: Recipe, *, steps: int, after: Callable[[int], None]
) -> History:
    """Lower the loss for some steps; `after` gets 0 before the first step, then the number of steps done."""
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    vectors = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    history, recent, start = History(), [], time.perf_counter()
    after(0)
    for step in track(range(steps), f"training {recipe.name}"):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate_factor(step, steps, recipe)
        loss = loss_at(step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        recent.append(float(loss.detach()))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            history.losses[step + 1] = sum(recent) / len(recent)
            recent = []
            logger.info("%s step %d loss %.4f", recipe.name, step + 1, history.losses[step + 1])
        after(step + 1)
    history.seconds = time.perf_counter() - start
    return history
