"""tinylens: experiments on small transformers. `from lens_utils import HookedTransformer, load_model` is the way in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lens_utils.hooked_transformer import HookedTransformer, HookedTransformerConfig
    from lens_utils.models import load_model

__all__ = ["HookedTransformer", "HookedTransformerConfig", "load_model"]

_HOMES = {
    "HookedTransformer": "lens_utils.hooked_transformer",
    "HookedTransformerConfig": "lens_utils.hooked_transformer",
    "load_model": "lens_utils.models",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that listing and help never load torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
