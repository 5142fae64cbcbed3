"""Induction over training: the same measurements on every stored checkpoint of a shipped model."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from lens_utils.circuits.composition import KINDS, composition_scores
from lens_utils.head_scores import score_heads
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.induction.attention import matching, second_copy_loss
from lens_utils.induction.losses import Repeat
from lens_utils.models import load_model, training_steps
from lens_utils.progress import track


@dataclass(frozen=True)
class Moment:
    """One state of the model; heads named where they are the final model's."""

    step: int | None
    """None for the final weights."""
    matching: Float64[Tensor, "text layer head"]
    previous: Float64[Tensor, "text layer head"]
    """Attention to the previous token."""
    k_composition: Float64[Tensor, "sender receiver"]
    loss: Float64[Tensor, " text"]
    """On the second copy's foreseeable tokens, nats."""


def formation(model: HookedTransformer, repeats: Sequence[Repeat]) -> tuple[Moment, ...]:
    """Every stored step of the model's training, then the model itself; () for models without stored steps."""
    name = model.cfg.model_name or ""
    shipped = getattr(model.provenance, "source", None) == "shipped"
    steps = training_steps(name) if shipped else ()
    if not steps or model.cfg.n_layers < 2:
        return ()
    states = (load_model(name, processing="folded", device=model.device, step=step) for step in steps)
    moments = [moment(state, step, repeats) for state, step in zip(states, track(steps, "checkpoints"), strict=True)]
    return (*moments, moment(model, None, repeats))


def moment(model: HookedTransformer, step: int | None, repeats: Sequence[Repeat]) -> Moment:
    """The measurements of one state."""
    scores = score_heads(model, [repeat.text for repeat in repeats], rules=("induction", "previous"))
    at = scores.rules.index("previous")
    previous = (scores.mass[:, at] / scores.rows[:, at, None, None]).double()
    k_composition = composition_scores(model)[KINDS.index("K")].detach().double().cpu()
    return Moment(step, matching(scores), previous, k_composition, second_copy_loss(model, repeats))
