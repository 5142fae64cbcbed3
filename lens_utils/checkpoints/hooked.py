"""HookedTransformer format: `config.json` with HookedTransformer's fields, and a state dict under its names."""

from dataclasses import fields
from typing import Any

from torch import Tensor

from lens_utils.checkpoints.config_file import ConfigFile
from lens_utils.checkpoints.errors import CheckpointError
from lens_utils.checkpoints.layout import StateDict
from lens_utils.checkpoints.weights import Weights
from lens_utils.hooked_transformer import HookedTransformerConfig

OWN_FIELDS = tuple(field.name for field in fields(HookedTransformerConfig))
"""The fields of a HookedTransformerConfig."""

BUFFERS = r"blocks\.\d+\.attn\.(mask|IGNORE)"
"""What older HookedTransformers saved beside their weights: attention masks and the score of a masked position."""

# Fields of TransformerLens' configurations that change the computation, with the value under which they do not.
_NEUTRAL: dict[str, Any] = {
    "attn_scores_soft_cap": -1.0,
    "experts_per_token": None,
    "final_rms": False,
    "gated_mlp": False,
    "norm_topk_prob": False,
    "num_experts": None,
    "output_logits_soft_cap": -1.0,
    "parallel_attn_mlp": False,
    "post_embedding_ln": False,
    "rotary_dim": None,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": False,
    "use_normalization_before_and_after": False,
    "use_NTK_by_parts_rope": False,
    "use_qk_norm": False,
    "uses_rms_norm": False,
}

# Fields of TransformerLens' configurations that say how a model was made, held or run, and leave the function alone.
_WITHOUT_EFFECT = {
    "NTK_by_parts_factor", "NTK_by_parts_high_freq_factor", "NTK_by_parts_low_freq_factor", "NTK_original_ctx_len",
    "checkpoint_index", "checkpoint_label_type", "checkpoint_value", "decoder_start_token_id", "dtype", "device",
    "from_checkpoint", "init_mode", "init_weights", "layer_norm_folding", "load_in_4bit", "n_devices", "n_params",
    "relative_attention_max_distance", "relative_attention_num_buckets", "rotary_adjacent_pairs", "rotary_base",
    "rotary_base_local", "tokenizer_prepends_bos", "trust_remote_code", "ungroup_grouped_query_attention",
    "use_hook_tokens",
}  # fmt: skip

# Fields that must agree with others, see refuse_other_functions.
_DERIVED = {"d_vocab_out", "n_key_value_heads"}

_INTEGERS = ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "d_vocab")


def convert(config: ConfigFile, weights: Weights) -> tuple[HookedTransformerConfig, StateDict]:
    """The configuration and the weights as they are, less mask buffers.

    Fields that only TransformerLens knows are accepted where they do not change the function, and refused otherwise;
    a field nobody knows is an error.
    """
    refuse_other_functions(config)
    unknown = sorted(set(config.values) - set(OWN_FIELDS) - set(_NEUTRAL) - _WITHOUT_EFFECT - _DERIVED)
    if unknown:
        raise CheckpointError(f"{config.name}: unknown fields {unknown}; known: {', '.join(OWN_FIELDS)}")
    return build_config(config, config.values), take_state(weights)


def refuse_other_functions(config: ConfigFile) -> None:
    """Refuse fields that ask for something a HookedTransformer does not compute."""
    for field, neutral in _NEUTRAL.items():
        config.refuse_unless(field, neutral, "not part of HookedTransformer")
    config.refuse_unless("d_vocab_out", config.get("d_vocab"), "another output vocabulary")
    config.refuse_unless("n_key_value_heads", config.get("n_heads"), "grouped queries")


def build_config(config: ConfigFile, values: dict[str, Any]) -> HookedTransformerConfig:
    """A HookedTransformerConfig from those of the values that are its own fields; the rest is left out."""
    for field in _INTEGERS:
        if not (field == "n_layers" and values.get(field) == 0):
            ConfigFile(values, config.name).integer(field)
    own = {key: value for key, value in values.items() if key in OWN_FIELDS and key not in ("dtype", "device")}
    if own.get("attn_only"):
        # Configurations of attention-only models tend to keep the fields of the MLP they do not have.
        own |= {"d_mlp": None, "act_fn": None}
    return HookedTransformerConfig.from_dict(own)


def take_state(weights: Weights) -> StateDict:
    """All tensors of the file but the mask buffers, checked against the model when it is built."""
    weights.drop(BUFFERS)
    state: dict[str, Tensor] = dict(weights.tensors)
    return state
