"""The parts of a transformer: embeddings, LayerNorm, attention, MLP, heads. Each hook point is on the causal path.

Every part has one formula and two ways to compute it: a fused one, and an explicit one that passes each intermediate
value through its hook point. The explicit way is taken exactly when somebody listens to one of those hooks.

Weights keep TransformerLens' orientation (`W_Q [head, d_model, d_head]`) over memory laid out as `F.linear` reads it,
so that no product has to copy a weight.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from lens_utils.axes import HeadVectors, Resid
from lens_utils.hooked_transformer.config import HookedTransformerConfig

ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


def listens(*hooks: HookPoint) -> bool:
    """Whether anything, TransformerLens hook or plain PyTorch hook, is attached to one of the hook points."""
    return any(hook._forward_hooks or hook._backward_hooks or hook._forward_pre_hooks for hook in hooks)


def matrix_parameter(*shape: int) -> nn.Parameter:
    """Parameter [..., d_in, d_out] whose memory is [..., d_out, d_in], the layout `F.linear` multiplies fastest."""
    *lead, d_in, d_out = shape
    return nn.Parameter(torch.zeros(*lead, d_out, d_in).transpose(-1, -2))


class Embed(nn.Module):
    """A lookup table with one row of W_E a token."""

    def __init__(self, n_rows: int, d_model: int) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.zeros(n_rows, d_model))

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Resid:
        """Rows of W_E."""
        return F.embedding(tokens, self.W_E)


class PosEmbed(nn.Module):
    """Learned absolute positions, one row of W_pos a position."""

    def __init__(self, n_ctx: int, d_model: int) -> None:
        super().__init__()
        self.W_pos = nn.Parameter(torch.zeros(n_ctx, d_model))

    def forward(self, positions: Int[Tensor, "batch pos"]) -> Resid:
        """Rows of W_pos."""
        return F.embedding(positions, self.W_pos)


class TokenTypeEmbed(nn.Module):
    """Segment embedding of BERT: one row for each of its text segments."""

    def __init__(self, n_token_types: int, d_model: int) -> None:
        super().__init__()
        self.W_token_type = nn.Parameter(torch.zeros(n_token_types, d_model))

    def forward(self, token_type_ids: Int[Tensor, "batch pos"]) -> Resid:
        """Rows of W_token_type."""
        return F.embedding(token_type_ids, self.W_token_type)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps), then gain w and bias b unless they were folded away (LNPre).

    `hook_scale` is the denominator, [..., 1]; `hook_normalized` the quotient, before gain and bias.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.eps = cfg.eps
        has_gain = cfg.normalization_type == "LN"
        self.w = nn.Parameter(torch.ones(cfg.d_model)) if has_gain else None
        self.b = nn.Parameter(torch.zeros(cfg.d_model)) if has_gain else None
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """The normalised x."""
        if not listens(self.hook_scale, self.hook_normalized):
            return F.layer_norm(x, x.shape[-1:], self.w, self.b, self.eps)
        centred = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        normalized = self.hook_normalized(centred / scale)
        return normalized if self.w is None else normalized * self.w + self.b


class Attention(nn.Module):
    """Multi-head attention.

    pattern = softmax(q k^T / divisor) over the visible keys, z = pattern v, attn_out = sum over heads of z W_O, + b_O.
    Inputs may be [batch, pos, d_model], or [batch, pos, head, d_model] where heads read different residual streams.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        heads, d_model, d_head = cfg.n_heads, cfg.d_model, cfg.d_head
        self.is_causal = cfg.attention_dir == "causal"
        self.score_divisor = cfg.score_divisor
        self.W_Q = matrix_parameter(heads, d_model, d_head)
        self.W_K = matrix_parameter(heads, d_model, d_head)
        self.W_V = matrix_parameter(heads, d_model, d_head)
        self.W_O = nn.Parameter(torch.zeros(heads, d_head, d_model))
        self.b_Q = nn.Parameter(torch.zeros(heads, d_head))
        self.b_K = nn.Parameter(torch.zeros(heads, d_head))
        self.b_V = nn.Parameter(torch.zeros(heads, d_head))
        self.b_O = nn.Parameter(torch.zeros(d_model))
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    def forward(
        self,
        query_input: Float[Tensor, "batch query *head d_model"],
        key_input: Float[Tensor, "batch key *head d_model"],
        value_input: Float[Tensor, "batch key *head d_model"],
        visible: Bool[Tensor, "#batch 1 query key"] | None,
    ) -> Float[Tensor, "batch query d_model"]:
        """The attention output with b_O; `visible` None means every key (or every earlier one, if causal)."""
        q = self.hook_q(project(query_input, self.W_Q, self.b_Q))
        k = self.hook_k(project(key_input, self.W_K, self.b_K))
        v = self.hook_v(project(value_input, self.W_V, self.b_V))
        # The backward pass of the fused kernel is the slow one, so training takes the explicit way.
        explicit = listens(self.hook_attn_scores, self.hook_pattern) or (torch.is_grad_enabled() and q.requires_grad)
        z = self.hook_z(self._explicit_z(q, k, v, visible) if explicit else self.fused_z(q, k, v, visible))
        if listens(self.hook_result):
            result = self.hook_result(einsum(z, self.W_O, "b q h d, h d m -> b q h m"))
            return result.sum(-2) + self.b_O
        return self.write(z)

    def write(self, z: Float[Tensor, "*axes head d_head"]) -> Float[Tensor, "*axes d_model"]:
        """The attention output of all heads, with b_O."""
        return F.linear(z.flatten(-2), self.W_O.flatten(0, 1).T, self.b_O)

    def fused_z(
        self,
        q: Float[Tensor, "batch query head d_head"],
        k: Float[Tensor, "batch key head d_head"],
        v: Float[Tensor, "batch key head d_head"],
        visible: Bool[Tensor, "#batch 1 query key"] | None,
    ) -> Float[Tensor, "batch query head d_head"]:
        """Values mixed by softmax(q k^T / divisor), in one kernel, past the hooks of scores and pattern."""
        z = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=visible,
            is_causal=self.is_causal and visible is None,
            scale=1 / self.score_divisor,
        )
        return z.transpose(1, 2)

    def _explicit_z(self, q: HeadVectors, k: HeadVectors, v: HeadVectors, visible: Tensor | None) -> HeadVectors:
        if visible is None and self.is_causal:
            visible = causal_mask(q.shape[1], q.device)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / self.score_divisor
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        pattern = self.hook_pattern(self.hook_attn_scores(scores).softmax(-1))
        return (pattern @ v.transpose(1, 2)).transpose(1, 2)


def causal_mask(n_pos: int, device: torch.device) -> Bool[Tensor, "1 1 query key"]:
    """True where key <= query."""
    return torch.ones(n_pos, n_pos, dtype=torch.bool, device=device).tril()[None, None]


def project(
    x: Float[Tensor, "batch pos *head d_model"],
    weight: Float[Tensor, "head d_model d_head"],
    bias: Float[Tensor, "head d_head"],
) -> HeadVectors:
    """Queries, keys or values of all heads; x may be one residual stream a head."""
    if x.ndim == 4:
        return einsum(x, weight, "b p h m, h m d -> b p h d") + bias
    rows = weight.transpose(1, 2).flatten(0, 1)
    return F.linear(x, rows, bias.flatten()).unflatten(-1, bias.shape)


class MLP(nn.Module):
    """act(x W_in + b_in) W_out + b_out; the hidden units are the neurons."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.d_mlp is not None
        assert cfg.act_fn is not None
        self.W_in = matrix_parameter(cfg.d_model, cfg.d_mlp)
        self.b_in = nn.Parameter(torch.zeros(cfg.d_mlp))
        self.W_out = matrix_parameter(cfg.d_mlp, cfg.d_model)
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model))
        self.act_fn = ACTIVATION_FUNCTIONS[cfg.act_fn]
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """The MLP output with b_out."""
        pre = self.hook_pre(F.linear(x, self.W_in.T, self.b_in))
        return F.linear(self.hook_post(self.act_fn(pre)), self.W_out.T, self.b_out)


class MLMHead(nn.Module):
    """Masked-language-model transform before the unembedding: LN(act(x W + b))."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.mlm_act_fn is not None
        self.W = matrix_parameter(cfg.d_model, cfg.d_model)
        self.b = nn.Parameter(torch.zeros(cfg.d_model))
        self.act_fn = ACTIVATION_FUNCTIONS[cfg.mlm_act_fn]
        self.ln = LayerNorm(cfg)
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """What the unembedding reads."""
        return self.ln(self.hook_post(self.act_fn(self.hook_pre(F.linear(x, self.W.T, self.b)))))


class Unembed(nn.Module):
    """logits = x W_U + b_U."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.W_U = matrix_parameter(cfg.d_model, cfg.d_vocab)
        self.b_U = nn.Parameter(torch.zeros(cfg.d_vocab))

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes vocab"]:
        """The logits."""
        return F.linear(x, self.W_U.T, self.b_U)
