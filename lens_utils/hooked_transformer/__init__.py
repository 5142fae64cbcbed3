"""HookedTransformer: TransformerLens' class, small enough to read in one sitting, every hook causal."""

from lens_utils.hooked_transformer.config import HookedTransformerConfig
from lens_utils.hooked_transformer.model import HookedTransformer, Output

__all__ = ["HookedTransformer", "HookedTransformerConfig", "Output"]
