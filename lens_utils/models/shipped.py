"""The folders of shipped models: weights checked against their card, and the states stored during training."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lens_utils.models import registry
from lens_utils.models.registry import ModelSpec, spec_for

if TYPE_CHECKING:
    import lens_utils.hooked_transformer


def verified_folder(spec: ModelSpec) -> Path:
    """The folder of a shipped model, its weights checked against its card."""
    folder = registry.WEIGHTS_ROOT / spec.location
    weights, card = folder / "model.safetensors", folder / "card.json"
    for file in (weights, card):
        if not file.is_file():
            raise ValueError(
                f"shipped model {spec.name!r}: {folder.name}/{file.name} is missing; restore it, or train the model "
                f"again with `python -m lens_utils.zoo.train {spec.name}`"
            )
    try:
        expected = json.loads(card.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name}/card.json: no readable 'sha256' ({error!r})") from error
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{folder.name}/model.safetensors: sha256 is {found}, expected {expected} (card.json); "
            "the file is damaged or was replaced"
        )
    return folder


def training_steps(name: str) -> tuple[int, ...]:
    """Steps of training after which a shipped model's weights are stored besides the final ones; () for other models.

    Raises `ValueError` for a name that stands for no model.
    """
    spec = spec_for(name)
    return tuple(stored.step for stored in _checkpoints(spec)) if spec.source == "shipped" else ()


@dataclass(frozen=True)
class Checkpoint:
    """Weights stored during training."""

    step: int
    file: Path
    sha256: str

    def restore(self, model: "lens_utils.hooked_transformer.HookedTransformer") -> str:
        """Put these weights into the model; returns their SHA-256."""
        from safetensors.torch import load_file

        model.load_state_dict(load_file(self.file))
        return self.sha256


def _checkpoints(spec: ModelSpec) -> tuple[Checkpoint, ...]:
    folder = verified_folder(spec)
    listed = json.loads((folder / "card.json").read_text(encoding="utf-8")).get("checkpoints", ())
    return tuple(Checkpoint(each["step"], folder / each["file"], each["sha256"]) for each in listed)


def stored_step(spec: ModelSpec, step: int) -> Checkpoint:
    """The checkpoint of one step, its file checked against the card."""
    stored = {each.step: each for each in _checkpoints(spec)} if spec.source == "shipped" else {}
    if step not in stored:
        choices = ", ".join(map(str, stored)) or "none: only shipped models can have some"
        raise ValueError(f"step={step!r}: stored steps of {spec.name!r} are {choices}")
    found = stored[step]
    if not found.file.is_file() or hashlib.sha256(found.file.read_bytes()).hexdigest() != found.sha256:
        raise ValueError(f"{spec.location}/{found.file.name} is missing, damaged or was replaced (card.json)")
    return found
