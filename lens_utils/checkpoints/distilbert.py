"""DistilBERT in Hugging Face format: BERT's computation without token types, under other names."""

from lens_utils.checkpoints.config_file import ConfigFile
from lens_utils.checkpoints.errors import CheckpointError
from lens_utils.checkpoints.layout import StateDict, take_attention, take_mlp, take_norm, take_unembedding
from lens_utils.checkpoints.weights import Weights
from lens_utils.hooked_transformer import HookedTransformerConfig

_EPS = 1e-12


def convert(config: ConfigFile, weights: Weights) -> tuple[HookedTransformerConfig, StateDict]:
    """The configuration and the weights in HookedTransformer's names.

    Sinusoidal positions, where a model has them, are stored in the file like learned ones. A checkpoint without the
    masked-language-model head is refused.
    """
    cfg = _config(config)
    weights.drop(r"distilbert\.embeddings\.position_ids")
    if "vocab_transform.weight" not in weights:
        raise CheckpointError(
            f"{weights.name}: no masked-language-model head (keys 'vocab_transform.*'), so there are no logits; "
            "save the model from DistilBertForMaskedLM"
        )
    source, width = "distilbert.embeddings", cfg.d_model
    embedding = weights.take(f"{source}.word_embeddings.weight", cfg.d_vocab, width)
    state: StateDict = {
        "embed.W_E": embedding,
        "pos_embed.W_pos": weights.take(f"{source}.position_embeddings.weight", cfg.n_ctx, width),
        **take_norm(weights, f"{source}.LayerNorm", "embed_ln", width),
    }
    for layer in range(cfg.n_layers):
        state |= _block(weights, layer, cfg)
    state |= {
        "mlm_head.W": weights.take("vocab_transform.weight", width, width).T,
        "mlm_head.b": weights.take("vocab_transform.bias", width),
        **take_norm(weights, "vocab_layer_norm", "mlm_head.ln", width),
        "unembed.b_U": weights.take("vocab_projector.bias", cfg.d_vocab),
    }
    tied = bool(config.get("tie_word_embeddings", True))
    state["unembed.W_U"] = take_unembedding(weights, "vocab_projector.weight", embedding, tied=tied)
    return cfg, state


def _config(config: ConfigFile) -> HookedTransformerConfig:
    activation = config.activation("activation", "gelu")
    return HookedTransformerConfig(
        n_layers=config.integer("n_layers"),
        d_model=config.integer("dim"),
        n_ctx=config.integer("max_position_embeddings"),
        d_head=config.head_size("dim", "n_heads"),
        n_heads=config.integer("n_heads"),
        d_vocab=config.integer("vocab_size"),
        d_mlp=config.integer("hidden_dim"),
        act_fn=activation,
        eps=_EPS,
        post_norm=True,
        attention_dir="bidirectional",
        embed_norm=True,
        mlm_head=True,
        mlm_act_fn=activation,
        original_architecture="DistilBertForMaskedLM",
    )


def _block(weights: Weights, layer: int, cfg: HookedTransformerConfig) -> StateDict:
    source, target, width = f"distilbert.transformer.layer.{layer}", f"blocks.{layer}", cfg.d_model
    sources = {letter: f"{source}.attention.{letter.lower()}_lin" for letter in "QKV"}
    sources["O"] = f"{source}.attention.out_lin"
    mlp = (f"{source}.ffn.lin1", f"{source}.ffn.lin2")
    return (
        take_attention(weights, sources, f"{target}.attn", width=width, n_heads=cfg.n_heads)
        | take_norm(weights, f"{source}.sa_layer_norm", f"{target}.ln1", width)
        | take_mlp(weights, mlp, f"{target}.mlp", width=width, hidden=cfg.d_mlp or 0)
        | take_norm(weights, f"{source}.output_layer_norm", f"{target}.ln2", width)
    )
