"""The configuration of a HookedTransformer, in TransformerLens' field names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu")
NORMALIZATIONS = ("LN", "LNPre", None)
POSITIONS = ("standard", "shortformer", "none")
DIRECTIONS = ("causal", "bidirectional")
ATTENTION_TYPES = ("global", "local")


@dataclass
class HookedTransformerConfig:
    """Shape and conventions of a model; every field is checked on construction.

    Raises `ValueError` naming the field, the value and the valid choices.
    """

    n_layers: int
    d_model: int
    n_ctx: int
    d_head: int
    n_heads: int
    d_vocab: int
    d_mlp: int | None = None
    """Width of the MLP's hidden layer; None when attn_only."""
    act_fn: str | None = None
    """relu, gelu (exact), gelu_new (tanh) or silu; None when attn_only."""
    attn_only: bool = False
    normalization_type: str | None = "LN"
    """LN with gain and bias, LNPre without (folded into the next weights), or None."""
    eps: float = 1e-5
    post_norm: bool = False
    """LayerNorm after each addition to the residual stream (BERT), and no final LayerNorm."""
    attention_dir: str = "causal"
    """causal (a token sees itself and earlier ones) or bidirectional."""
    use_attn_scale: bool = True
    attn_scale: float = -1.0
    """Scores are divided by this; -1 means sqrt(d_head), or 1 without use_attn_scale."""
    use_local_attn: bool = False
    attn_types: tuple[str, ...] | None = None
    """'global' or 'local', one a layer, when use_local_attn."""
    window_size: int | None = None
    """A local layer sees the last window_size positions, itself included."""
    positional_embedding_type: str = "standard"
    """standard: added to the residual stream; shortformer: added to the inputs of queries and keys only; none."""
    n_token_types: int = 0
    """Rows of the token-type embedding (BERT: 2); 0 for none."""
    embed_norm: bool = False
    """LayerNorm on the sum of the embeddings (BERT)."""
    mlm_head: bool = False
    """Masked-language-model head before the unembedding: dense, activation, LayerNorm."""
    mlm_act_fn: str | None = None
    default_prepend_bos: bool = True
    """Whether text gets its special tokens by default: BOS, or [CLS] ... [SEP] for a masked model."""
    model_name: str = "custom"
    original_architecture: str | None = None
    tokenizer_name: str | None = None
    use_attn_result: bool = False
    """Whether a full cache holds hook_result (the hook itself always works)."""
    use_split_qkv_input: bool = False
    """Whether a full cache holds hook_q_input, hook_k_input, hook_v_input (the hooks always work)."""
    use_attn_in: bool = False
    """Whether a full cache holds hook_attn_in (the hook itself always works)."""
    use_hook_mlp_in: bool = False
    """Whether a full cache holds hook_mlp_in (the hook itself always works)."""
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    seed: int | None = None
    """Seeds the initial weights; None leaves them to the global generator."""
    initializer_range: float = -1.0
    """Standard deviation of the initial weights; -1 means 0.8 / sqrt(d_model)."""

    def __post_init__(self) -> None:
        for name in ("d_model", "n_ctx", "d_head", "n_heads", "d_vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be at least 1")
        if self.initializer_range < 0:
            self.initializer_range = 0.8 / self.d_model**0.5
        if self.n_layers < 0:
            raise ValueError(f"n_layers={self.n_layers!r}: must be 0 or more")
        self._check_choice("normalization_type", NORMALIZATIONS)
        self._check_choice("positional_embedding_type", POSITIONS)
        self._check_choice("attention_dir", DIRECTIONS)
        self._check_mlp()
        self._check_local_attention()
        if self.mlm_head:
            self._check_choice("mlm_act_fn", ACTIVATIONS)
        if self.post_norm and self.normalization_type != "LN":
            raise ValueError(f"normalization_type={self.normalization_type!r}: post_norm blocks need 'LN'")
        if self.post_norm and self.positional_embedding_type == "shortformer":
            raise ValueError("positional_embedding_type='shortformer': not defined for post_norm blocks")

    def _check_choice(self, name: str, choices: tuple[Any, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(map(repr, choices))}")

    def _check_mlp(self) -> None:
        if self.attn_only:
            return
        self._check_choice("act_fn", ACTIVATIONS)
        if self.d_mlp is None or self.d_mlp < 1:
            raise ValueError(f"d_mlp={self.d_mlp!r}: must be at least 1 unless attn_only")

    def _check_local_attention(self) -> None:
        if not self.use_local_attn:
            return
        types = self.attn_types
        if types is None or len(types) != self.n_layers or any(kind not in ATTENTION_TYPES for kind in types):
            raise ValueError(f"attn_types={types!r}: give one of {ATTENTION_TYPES} for each of {self.n_layers} layers")
        if self.window_size is None or self.window_size < 1:
            raise ValueError(f"window_size={self.window_size!r}: local attention needs at least 1")
        self.attn_types = tuple(types)

    @property
    def is_masked(self) -> bool:
        """Whether the model predicts masked tokens (bidirectional) instead of next ones."""
        return self.attention_dir == "bidirectional"

    @property
    def score_divisor(self) -> float:
        """What attention scores are divided by."""
        if self.attn_scale > 0:
            return self.attn_scale
        return self.d_head**0.5 if self.use_attn_scale else 1.0

    @property
    def d_vocab_out(self) -> int:
        """Rows of logits; the same tokens go in and come out."""
        return self.d_vocab

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values, without where and how it is held (device)."""
        values = asdict(self) | {"dtype": str(self.dtype).removeprefix("torch.")}
        values.pop("device")
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HookedTransformerConfig":
        """The configuration written by `to_dict`; an unknown field is an error."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown configuration fields {unknown}; known: {', '.join(sorted(known))}")
        values = dict(values)
        if isinstance(values.get("dtype"), str):
            values["dtype"] = getattr(torch, values["dtype"])
        if values.get("attn_types") is not None:
            values["attn_types"] = tuple(values["attn_types"])
        return cls(**values)
