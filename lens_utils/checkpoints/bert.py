"""BERT in Hugging Face format: post-norm encoder, token types, masked-language-model head."""

from jaxtyping import Float
from torch import Tensor

from lens_utils.checkpoints.config_file import ConfigFile
from lens_utils.checkpoints.errors import CheckpointError
from lens_utils.checkpoints.layout import StateDict, take_attention, take_mlp, take_norm, take_unembedding
from lens_utils.checkpoints.weights import Weights
from lens_utils.hooked_transformer import HookedTransformerConfig


def convert(config: ConfigFile, weights: Weights) -> tuple[HookedTransformerConfig, StateDict]:
    """The configuration and the weights in HookedTransformer's names.

    The pooler and the next-sentence head are left out: HookedTransformer predicts masked tokens only. A checkpoint
    without the masked-language-model head is refused. Old files' LayerNorm names (gamma, beta) are read.
    """
    cfg = _config(config)
    weights.rename(r"LayerNorm\.gamma$", "LayerNorm.weight")
    weights.rename(r"LayerNorm\.beta$", "LayerNorm.bias")
    weights.drop(r"bert\.embeddings\.(position_ids|token_type_ids)|bert\.pooler\..*|cls\.seq_relationship\..*")
    _require_head(weights)
    state, width = _embeddings(weights, cfg), cfg.d_model
    for layer in range(cfg.n_layers):
        state |= _block(weights, layer, cfg)
    head = "cls.predictions"
    state |= {
        "mlm_head.W": weights.take(f"{head}.transform.dense.weight", width, width).T,
        "mlm_head.b": weights.take(f"{head}.transform.dense.bias", width),
        "unembed.b_U": _decoder_bias(weights, cfg.d_vocab),
    }
    state |= take_norm(weights, f"{head}.transform.LayerNorm", "mlm_head.ln", width)
    tied = bool(config.get("tie_word_embeddings", True))
    state["unembed.W_U"] = take_unembedding(weights, f"{head}.decoder.weight", state["embed.W_E"], tied=tied)
    return cfg, state


def _config(config: ConfigFile) -> HookedTransformerConfig:
    config.refuse_unless("is_decoder", False, "BERT as a causal decoder")
    config.refuse_unless("position_embedding_type", "absolute", "relative positions")
    activation = config.activation("hidden_act", "gelu")
    return HookedTransformerConfig(
        n_layers=config.integer("num_hidden_layers"),
        d_model=config.integer("hidden_size"),
        n_ctx=config.integer("max_position_embeddings"),
        d_head=config.head_size("hidden_size", "num_attention_heads"),
        n_heads=config.integer("num_attention_heads"),
        d_vocab=config.integer("vocab_size"),
        d_mlp=config.integer("intermediate_size"),
        act_fn=activation,
        eps=config.number("layer_norm_eps", 1e-12),
        post_norm=True,
        attention_dir="bidirectional",
        n_token_types=config.integer("type_vocab_size", 2),
        embed_norm=True,
        mlm_head=True,
        mlm_act_fn=activation,
        original_architecture="BertForMaskedLM",
    )


def _require_head(weights: Weights) -> None:
    if not any(key.startswith("cls.predictions.") for key in weights.tensors):
        raise CheckpointError(
            f"{weights.name}: no masked-language-model head (keys 'cls.predictions.*'), so there are no logits; "
            "save the model from BertForMaskedLM or BertForPreTraining"
        )


def _decoder_bias(weights: Weights, size: int) -> Float[Tensor, "vocab"]:
    """The bias of the decoder, which files hold under one name or under two."""
    bias, copy = "cls.predictions.bias", "cls.predictions.decoder.bias"
    if bias not in weights and copy in weights:
        return weights.take(copy, size)
    weights.drop(copy.replace(".", r"\."))
    return weights.take(bias, size)


def _embeddings(weights: Weights, cfg: HookedTransformerConfig) -> StateDict:
    source, width = "bert.embeddings", cfg.d_model
    return {
        "embed.W_E": weights.take(f"{source}.word_embeddings.weight", cfg.d_vocab, width),
        "pos_embed.W_pos": weights.take(f"{source}.position_embeddings.weight", cfg.n_ctx, width),
        "token_type_embed.W_token_type": weights.take(
            f"{source}.token_type_embeddings.weight", cfg.n_token_types, width
        ),
        **take_norm(weights, f"{source}.LayerNorm", "embed_ln", width),
    }


def _block(weights: Weights, layer: int, cfg: HookedTransformerConfig) -> StateDict:
    source, target, width = f"bert.encoder.layer.{layer}", f"blocks.{layer}", cfg.d_model
    attention = f"{source}.attention"
    names = {"Q": "self.query", "K": "self.key", "V": "self.value", "O": "output.dense"}
    sources = {letter: f"{attention}.{name}" for letter, name in names.items()}
    mlp = (f"{source}.intermediate.dense", f"{source}.output.dense")
    return (
        take_attention(weights, sources, f"{target}.attn", width=width, n_heads=cfg.n_heads)
        | take_norm(weights, f"{attention}.output.LayerNorm", f"{target}.ln1", width)
        | take_mlp(weights, mlp, f"{target}.mlp", width=width, hidden=cfg.d_mlp or 0)
        | take_norm(weights, f"{source}.output.LayerNorm", f"{target}.ln2", width)
    )
