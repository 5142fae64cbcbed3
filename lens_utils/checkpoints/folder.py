"""A local folder becomes a model: which format it is in, building, checking, loading."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_utils.checkpoints import bert, distilbert, gpt2, gpt_neo, hooked, legacy
from lens_utils.checkpoints.config_file import ConfigFile
from lens_utils.checkpoints.errors import CheckpointError
from lens_utils.checkpoints.files import find_weight_files
from lens_utils.checkpoints.tokenizer import load_tokenizer
from lens_utils.checkpoints.weights import (
    Weights,
    check_tensor,
    read_weights,
    unexpected_message,
)
from lens_utils.hooked_transformer import HookedTransformer, HookedTransformerConfig

FORMATS: dict[str, Callable[[ConfigFile, Weights], tuple[HookedTransformerConfig, dict[str, Tensor]]]] = {
    "gpt_neo": gpt_neo.convert,
    "gpt2": gpt2.convert,
    "bert": bert.convert,
    "distilbert": distilbert.convert,
    "legacy": legacy.convert,
    "hooked": hooked.convert,
}
"""How each format's configuration and weights are converted; the Hugging Face ones by their model_type."""

_ARCHITECTURES = {"GPTNeo": "gpt_neo", "GPT2": "gpt2", "Bert": "bert", "DistilBert": "distilbert"}
# What the first BERT configurations have in common; they came before model_type.
_BERT_FIELDS = {"hidden_size", "num_hidden_layers", "num_attention_heads", "type_vocab_size"}


def load_folder(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    config: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
) -> HookedTransformer:
    """The model in a local folder, in evaluation mode, without any network call.

    `config` stands in for a `config.json` that the folder lacks; `tokenizer` is used where the folder has none. Without
    either the model takes tokens only. Every tensor in the file must be used, and every parameter of the model must be
    in the file, in its shape; otherwise `CheckpointError` names file, key, expected and found.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder")
    name = f"{folder.name}/config.json"
    values = ConfigFile.read(folder) if config is None else ConfigFile(config, name)
    model_format = detect_format(values, folder)
    weights = read_weights(find_weight_files(folder))
    try:
        cfg, state = FORMATS[model_format](values, weights)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{values.name}: {error}") from error
    if model_format not in ("legacy", "hooked"):
        weights.finish()
    cfg.dtype, cfg.device = dtype, str(device)
    cfg.model_name = folder.name if cfg.model_name == "custom" else cfg.model_name
    tokenizer = load_tokenizer(folder, model_format) or tokenizer
    _check_tokenizer(tokenizer, cfg, folder)
    return _build(cfg, state, weights, tokenizer)


def detect_format(config: ConfigFile, folder: Path) -> str:
    """Which of FORMATS a folder is in, from its configuration; `CheckpointError` naming them if it is in none."""
    model_type = config.get("model_type")
    if model_type in _ARCHITECTURES.values():
        return model_type
    architectures = config.get("architectures") or []
    if model_type is None and architectures:
        for prefix, model_format in _ARCHITECTURES.items():
            if str(architectures[0]).startswith(f"{prefix}For") or str(architectures[0]) in (
                f"{prefix}Model",
                f"{prefix}LMHeadModel",
            ):
                return model_format
    if model_type is None and not architectures:
        if {"d_model", "n_layers"} <= set(config.values):
            final = any(path.name.endswith("final.pth") for path in folder.iterdir())
            return "legacy" if final or any(field in config.values for field in legacy.MARKERS) else "hooked"
        if set(config.values) >= _BERT_FIELDS:
            return "bert"
    found = f"model_type={model_type!r}, architectures={architectures!r}"
    raise CheckpointError(
        f"{config.name}: unsupported architecture ({found}); supported: GPT-Neo (gpt_neo), GPT-2 (gpt2), BERT (bert), "
        "DistilBERT (distilbert), or HookedTransformer fields (d_model, n_layers, ...)"
    )


def _build(
    cfg: HookedTransformerConfig, state: dict[str, Tensor], weights: Weights, tokenizer: Any
) -> HookedTransformer:
    model = HookedTransformer(cfg, tokenizer, init_weights=False)
    expected = model.state_dict()
    for key, parameter in expected.items():
        if key not in state:
            raise CheckpointError(f"{weights.name}: key {key!r} is missing, expected shape {list(parameter.shape)}")
        check_tensor(state[key], key, parameter.shape, weights.files.get(key, weights.name))
    unexpected = {key: tensor for key, tensor in state.items() if key not in expected}
    if unexpected:
        raise CheckpointError(f"{weights.name}: {unexpected_message(unexpected)}")
    model.load_state_dict(state)
    return model.to(cfg.device).eval()


def _check_tokenizer(tokenizer: Any, cfg: HookedTransformerConfig, folder: Path) -> None:
    if tokenizer is not None and len(tokenizer) > cfg.d_vocab:
        raise CheckpointError(
            f"{folder.name}: the tokenizer has {len(tokenizer)} tokens, the model's embedding only {cfg.d_vocab} rows"
        )
