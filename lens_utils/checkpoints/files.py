"""Which files of a folder hold its weights, and their fingerprint; without torch, so that asking is quick."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lens_utils.checkpoints.errors import CheckpointError

_PREFERRED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def find_weight_files(folder: Path) -> list[Path]:
    """The weight files to read: safetensors before PyTorch files, `*final.pth` before other checkpoints.

    A sharded checkpoint gives one file a shard. `CheckpointError` if there are none or several to choose from.
    """
    for name in _PREFERRED:
        if (folder / name).is_file():
            return _shards(folder / name) if name.endswith(".json") else [folder / name]
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    chosen = [path for path in found if path.suffix == ".safetensors"] or found
    chosen = [path for path in chosen if path.name.endswith("final.pth")] or chosen
    if len(chosen) != 1:
        names = ", ".join(path.name for path in chosen) or "none"
        raise CheckpointError(f"{folder.name}: expected one weight file (*{', *'.join(_SUFFIXES)}), found {names}")
    return chosen


def _shards(index: Path) -> list[Path]:
    name = f"{index.parent.name}/{index.name}"
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{name}: not readable as an index of shards ({error!r})") from error
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(f"{name}: shard {shard!r} is not the name of a file in this folder")
        if not (index.parent / shard).is_file():
            raise CheckpointError(f"{name}: shard {shard!r} is missing from the folder")
    return [index.parent / shard for shard in shards]


def sha256_of(paths: Sequence[Path]) -> str:
    """The SHA-256 of a weight file; of several, that of their own digests in hexadecimal, in order."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
