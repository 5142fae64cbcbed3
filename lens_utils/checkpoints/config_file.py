"""Reading `config.json`: fields that are checked when they are asked for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lens_utils.checkpoints.errors import CheckpointError
from lens_utils.hooked_transformer.config import ACTIVATIONS

# Other spellings of the same functions.
_ACTIVATION_ALIASES = {"gelu_python": "gelu", "gelu_pytorch_tanh": "gelu_new", "swish": "silu"}


class ConfigFile:
    """The fields of a configuration and the name of the file they came from, for error messages."""

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self.values = dict(values)
        self.name = name

    @classmethod
    def read(cls, folder: Path) -> "ConfigFile":
        """The `config.json` of a folder; a missing or malformed one is a `CheckpointError`."""
        name = f"{folder.name}/config.json"
        try:
            values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{name}: not found; a model folder needs a config.json") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{name}: not readable as JSON ({error})") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"{name}: holds {type(values).__name__}, expected an object with named fields")
        return cls(values, name)

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field, or the default where the format leaves it out."""
        return self.values.get(field, default)

    def integer(self, field: str, default: int | None = None) -> int:
        """A positive whole number; required unless it has a default, which null stands for too."""
        value = self.values.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            found = "missing" if field not in self.values else f"{value!r}"
            raise CheckpointError(f"{self.name}: field {field!r} is {found}, expected a whole number of at least 1")
        return value

    def number(self, field: str, default: float) -> float:
        """A real number, or the default where the format leaves it out."""
        value = self.values.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self.name}: field {field!r} is {value!r}, expected a number")
        return float(value)

    def head_size(self, width: str, heads: str) -> int:
        """d_head = d_model / n_heads, from the fields that hold them."""
        d_model, n_heads = self.integer(width), self.integer(heads)
        if d_model % n_heads:
            raise CheckpointError(f"{self.name}: {width}={d_model} is not a multiple of {heads}={n_heads}")
        return d_model // n_heads

    def activation(self, field: str, default: str) -> str:
        """The activation function in HookedTransformer's terms."""
        value = self.values.get(field, default)
        known = _ACTIVATION_ALIASES.get(value, value) if isinstance(value, str) else value
        if known not in ACTIVATIONS:
            choices = ", ".join(sorted({*ACTIVATIONS, *_ACTIVATION_ALIASES}))
            raise CheckpointError(f"{self.name}: {field}={value!r} is not supported; supported: {choices}")
        return known

    def refuse_unless(self, field: str, accepted: Any, reason: str) -> None:
        """Refuse a field that asks for a computation HookedTransformer does not do."""
        value = self.values.get(field, accepted)
        if value != accepted and value is not None:
            raise CheckpointError(f"{self.name}: {field}={value!r} is not supported ({reason}); expected {accepted!r}")
