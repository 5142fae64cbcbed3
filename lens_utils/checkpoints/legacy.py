"""Legacy TransformerLens repositories: a training `config.json` and a `*final.pth` HookedTransformer state dict."""

from typing import Any

import torch

from lens_utils.checkpoints.config_file import ConfigFile
from lens_utils.checkpoints.errors import CheckpointError
from lens_utils.checkpoints.hooked import build_config, refuse_other_functions, take_state
from lens_utils.checkpoints.layout import StateDict
from lens_utils.checkpoints.weights import Weights
from lens_utils.hooked_transformer import HookedTransformerConfig

MARKERS = ("normalization", "shortformer_pos")
"""Fields that only legacy configurations have."""

_ARCHITECTURE = "neel"
_POSITIONS = {True: "shortformer", False: "standard", None: "standard"}


def convert(config: ConfigFile, weights: Weights) -> tuple[HookedTransformerConfig, StateDict]:
    """The configuration and the weights as they are, less mask buffers.

    `normalization` and `shortformer_pos` are what HookedTransformer calls normalization_type and
    positional_embedding_type; fields of the training run are left out. Early files have no unembedding bias: zeros.
    The transposed layout of the oldest repositories ('..._old') is refused.
    """
    refuse_other_functions(config)
    architecture = config.get("architecture", _ARCHITECTURE)
    if architecture != _ARCHITECTURE:
        raise CheckpointError(f"{config.name}: architecture={architecture!r}: supported is {_ARCHITECTURE!r}")
    cfg = build_config(config, _renamed(config))
    state = take_state(weights)
    state.setdefault("unembed.b_U", torch.zeros(cfg.d_vocab))
    return cfg, state


def _renamed(config: ConfigFile) -> dict[str, Any]:
    values = dict(config.values)
    if "normalization" in values:
        values["normalization_type"] = values.pop("normalization")
    if "shortformer_pos" in values:
        shortformer = values.pop("shortformer_pos")
        if shortformer not in _POSITIONS:
            raise CheckpointError(f"{config.name}: shortformer_pos={shortformer!r}, expected true or false")
        values["positional_embedding_type"] = _POSITIONS[shortformer]
    if not values.get("d_head"):
        values["d_head"] = config.head_size("d_model", "n_heads")
    return values
