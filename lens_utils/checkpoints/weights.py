"""Reading weight files: safetensors, or PyTorch files that hold nothing but tensors."""

import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lens_utils.checkpoints.errors import CheckpointError


class Weights:
    """The tensors of a checkpoint under the file's own names, handed out with their shapes checked."""

    def __init__(self, tensors: dict[str, Tensor], files: dict[str, str], name: str) -> None:
        self.tensors = tensors
        self.files = files
        self.name = name

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def rename(self, pattern: str, replacement: str) -> None:
        """Rename keys by a regular expression; two keys meeting in one name is an error."""
        tensors: dict[str, Tensor] = {}
        files: dict[str, str] = {}
        for key, tensor in self.tensors.items():
            renamed = re.sub(pattern, replacement, key)
            if renamed in tensors:
                raise CheckpointError(f"{self.files[key]}: key {key!r} is there twice, also as {renamed!r}")
            tensors[renamed], files[renamed] = tensor, self.files[key]
        self.tensors, self.files = tensors, files

    def drop(self, pattern: str) -> None:
        """Forget the keys that match in full: buffers, and heads that the model does not have."""
        for key in [key for key in self.tensors if re.fullmatch(pattern, key)]:
            del self.tensors[key]

    def take(self, key: str, *shape: int) -> Tensor:
        """Remove and return one tensor; `CheckpointError` if it is missing or of another shape."""
        if key not in self.tensors:
            raise CheckpointError(f"{self.name}: key {key!r} is missing, expected shape {list(shape)}")
        tensor = self.tensors.pop(key)
        check_tensor(tensor, key, shape, self.files[key])
        return tensor

    def finish(self) -> None:
        """Fail if a tensor was not asked for: the model would not be the one in the file."""
        if self.tensors:
            raise CheckpointError(f"{self.name}: {unexpected_message(self.tensors)}")


def check_tensor(tensor: Tensor, key: str, shape: Sequence[int], file: str) -> None:
    """Fail unless a tensor holds real numbers in the expected shape."""
    if list(tensor.shape) != list(shape):
        raise CheckpointError(f"{file}: key {key!r} has shape {list(tensor.shape)}, expected {list(shape)}")
    if not tensor.is_floating_point():
        raise CheckpointError(f"{file}: key {key!r} holds {tensor.dtype}, expected floating-point numbers")


def unexpected_message(keys: dict[str, Tensor]) -> str:
    """What to say of tensors nothing asked for."""
    shown = ", ".join(f"{key!r} {list(keys[key].shape)}" for key in sorted(keys)[:5])
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"unexpected keys, expected none beyond the model's own: {shown}{more}"


def read_weights(paths: Sequence[Path]) -> Weights:
    """All tensors of the given files, on the CPU, as stored."""
    tensors: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    for path in paths:
        name = f"{path.parent.name}/{path.name}"
        for key, tensor in _read_file(path, name).items():
            if key in tensors:
                raise CheckpointError(f"{name}: key {key!r} is also in {files[key]}")
            tensors[key], files[key] = tensor, name
    first = f"{paths[0].parent.name}/{paths[0].name}"
    return Weights(tensors, files, first if len(paths) == 1 else f"{first} and {len(paths) - 1} more shards")


def _read_file(path: Path, name: str) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{name}: corrupt or truncated safetensors file ({error})") from error
    return _state_dict(_read_pickle(path, name), name)


def _read_pickle(path: Path, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            # PyTorch warns of unusual pickle protocols; what it then cannot read is an error below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        needs = _code_needed(error) if isinstance(error, pickle.UnpicklingError) else None
        if needs is None:
            raise CheckpointError(f"{name}: corrupt or truncated PyTorch file ({_first_line(error)})") from error
        raise CheckpointError(
            f"{name}: refused, because reading it would run code ({needs}); only files of plain tensors are read, "
            "best saved as safetensors"
        ) from error


def _code_needed(error: pickle.UnpicklingError) -> str | None:
    """What PyTorch's restricted reader would have had to call; None if the file is just no pickle of any kind."""
    message = str(error)
    called = re.search(r"GLOBAL (\S+)", message)
    if called:
        return called[1]
    if re.search(r"Can only (create|build|call)|Trying to call reduce", message):
        return "objects other than tensors"
    # Opcodes of pickle protocols 2 and up lie above ASCII; below are the bytes of text and other file formats.
    operand = re.search(r"Unsupported operand (\d+)", message)
    return "a general pickle" if operand and int(operand[1]) > 127 else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _state_dict(loaded: Any, name: str) -> dict[str, Tensor]:
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{name}: holds {type(loaded).__name__}, expected a state dict of tensors")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{name}: key {key!r} holds {type(value).__name__}, expected a tensor")
    return dict(loaded)
