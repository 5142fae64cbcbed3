"""The networks of the shipped models before training, and their files after it."""

import json
import math
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)  # fmt: skip

from lens_utils.hooked_transformer import HookedTransformer, HookedTransformerConfig
from lens_utils.zoo.recipes import Recipe

Network = HookedTransformer | PreTrainedModel
_EMBEDDING_STD = 0.1


def new_network(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator) -> Network:
    """An untrained network of a recipe's shape: normal matrices, and sinusoids as position embeddings."""
    network = _hooked(recipe, len(tokenizer)) if recipe.family == "attention-only" else _hugging_face(recipe, tokenizer)
    for name, weight in network.named_parameters():
        with torch.no_grad():
            if name.endswith(("W_pos", "wpe.weight", "position_embeddings.weight")):
                weight.copy_(sinusoids(*weight.shape) * recipe.position_amplitude)
            elif name.endswith(("W_E", "wte.weight", "word_embeddings.weight")):
                nn.init.normal_(weight, std=_EMBEDDING_STD, generator=generator)
            elif name.endswith("token_type_embeddings.weight"):
                nn.init.normal_(weight, std=0.01, generator=generator)
            elif weight.ndim > 1:
                nn.init.normal_(weight, std=_scale(name) / math.sqrt(recipe.shape.d_model), generator=generator)
    return network.train()


def sinusoids(n_ctx: int, d_model: int) -> Float[Tensor, "pos d_model"]:
    """Sine and cosine of each position at d_model / 2 frequencies, from 0.9 pi down to 0.45 pi / n_ctx a position."""
    steps = torch.arange(d_model // 2) / (d_model // 2 - 1)
    angle = torch.arange(n_ctx)[:, None] * (0.9 * math.pi * torch.exp(-math.log(2 * n_ctx) * steps))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def _scale(name: str) -> float:
    """Standard deviation of a matrix times sqrt(d_model): smaller where it writes to the residual stream."""
    if name.endswith(("W_U",)):
        return 0.3
    writes = (
        "W_O",
        "out_proj.weight",
        "c_proj.weight",
        "attention.output.dense.weight",
        "out_lin.weight",
        "lin2.weight",
    )
    return 0.5 if name.endswith(writes) else 0.8


def _hooked(recipe: Recipe, d_vocab: int) -> HookedTransformer:
    shape = recipe.shape
    return HookedTransformer(HookedTransformerConfig(
        n_layers=shape.n_layers, d_model=shape.d_model, n_ctx=shape.n_ctx, d_head=shape.d_head, n_heads=shape.n_heads,
        d_vocab=d_vocab, attn_only=True, normalization_type="LN" if shape.n_layers else None,
        positional_embedding_type="standard" if shape.n_layers else "none", model_name=recipe.name, seed=recipe.seed,
    ))  # fmt: skip


def _hugging_face(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    shape, end = recipe.shape, tokenizer.eos_token_id
    if recipe.family == "gpt-neo":
        return GPTNeoForCausalLM(GPTNeoConfig(
            vocab_size=len(tokenizer), max_position_embeddings=shape.n_ctx, hidden_size=shape.d_model,
            num_layers=shape.n_layers,
            attention_types=[[["global"], shape.n_layers]], num_heads=shape.n_heads, intermediate_size=shape.d_mlp,
            activation_function="gelu_new", resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0,
            bos_token_id=end, eos_token_id=end, attn_implementation="eager",  # pyright: ignore
        ))  # fmt: skip
    if recipe.family == "bert":
        return BertForMaskedLM(BertConfig(
            vocab_size=len(tokenizer), max_position_embeddings=shape.n_ctx, hidden_size=shape.d_model,
            num_hidden_layers=shape.n_layers, num_attention_heads=shape.n_heads, intermediate_size=shape.d_mlp,
            hidden_act="gelu",
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",  # pyright: ignore
        ))  # fmt: skip
    return DistilBertForMaskedLM(DistilBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=shape.n_ctx, dim=shape.d_model, n_layers=shape.n_layers,
        n_heads=shape.n_heads, hidden_dim=shape.d_mlp, dropout=0.0, attention_dropout=0.0, activation="gelu",
        pad_token_id=tokenizer.pad_token_id, attn_implementation="eager",  # pyright: ignore
    ))  # fmt: skip


def half_state(network: Network) -> dict[str, Tensor]:
    """The weights as stored: float16, each shared matrix once."""
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and weight.data_ptr() not in seen:
            seen.add(weight.data_ptr())
            kept[name] = weight.detach().half().contiguous()
    return kept


def save_network(network: Network, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, model.safetensors in float16 and the tokenizer; the config asks for float32 when loaded."""
    if isinstance(network, HookedTransformer):
        config = network.cfg.to_dict()
    else:
        config = network.config.to_dict() | {"architectures": [type(network).__name__], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(half_state(network), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
