"""The axis glossary: every tensor in tinylens is annotated with these names.

| axis | meaning |
|---|---|
| `batch` | prompts run together |
| `pos` | token position; `query` (destination) and `key` (source) in attention |
| `layer`, `head` | block, attention head |
| `d_model`, `d_head`, `d_mlp` | width of the residual stream, of a head, of the MLP's hidden layer |
| `vocab` | tokens the model knows |
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch pos"]
"""Token ids."""
Mask = Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"]
"""1 (True) where a token is real, 0 (False) where it is padding."""
Resid = Float[Tensor, "batch pos d_model"]
"""The residual stream, or anything added to it."""
Logits = Float[Tensor, "batch pos vocab"]
"""Unnormalised log-probabilities of the next (or masked) token, in nats."""
HeadVectors = Float[Tensor, "batch pos head d_head"]
"""Queries, keys, values or z of every head."""
Pattern = Float[Tensor, "batch head query key"]
"""Attention probabilities: rows (`query`) sum to 1 over `key`."""
MlpActivations = Float[Tensor, "batch pos d_mlp"]
"""Neuron pre- or post-activations."""
