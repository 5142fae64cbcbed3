"""Checkpoints: a local folder in any supported format becomes a HookedTransformer.

One small module a format turns `config.json` and weights into a configuration and a state dict in HookedTransformer
names; `folder` builds, checks and loads the model. Nothing here uses the network except `hub`.
"""

from typing import TYPE_CHECKING, Any

from lens_utils.checkpoints.errors import CheckpointError, HubError

if TYPE_CHECKING:
    from lens_utils.checkpoints.folder import load_folder

__all__ = ["CheckpointError", "HubError", "load_folder"]


def __getattr__(name: str) -> Any:
    """Import the loader on first use: it needs torch, looking for files and asking the hub does not."""
    if name == "load_folder":
        from lens_utils.checkpoints.folder import load_folder

        return load_folder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
