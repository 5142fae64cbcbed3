"""One transformer block, in both orders of LayerNorm."""

from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from lens_utils.axes import Resid
from lens_utils.hooked_transformer.components import MLP, Attention, LayerNorm, listens
from lens_utils.hooked_transformer.config import HookedTransformerConfig


class TransformerBlock(nn.Module):
    """Attention and MLP around a residual stream.

    Pre-norm: `resid_mid = resid_pre + attn(ln1(resid_pre))`, `resid_post = resid_mid + mlp(ln2(resid_mid))`.
    Post-norm (BERT): `resid_mid = resid_pre + attn(resid_pre)`, `x = ln1(resid_mid)`, `resid_post = x + mlp(x)`,
    and the block returns `normalized_resid_post = ln2(resid_post)`. Without LayerNorm the lns are the identity.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.n_heads = cfg.n_heads
        self.post_norm = cfg.post_norm
        has_norm = cfg.normalization_type is not None
        self.attn = Attention(cfg)
        self.mlp = None if cfg.attn_only else MLP(cfg)
        self.ln1 = LayerNorm(cfg) if has_norm else nn.Identity()
        if not cfg.attn_only:
            self.ln2 = LayerNorm(cfg) if has_norm else nn.Identity()
            self.hook_resid_mid = HookPoint()
            self.hook_mlp_in = HookPoint()
            self.hook_mlp_out = HookPoint()
        self.hook_resid_pre = HookPoint()
        self.hook_attn_in = HookPoint()
        self.hook_q_input = HookPoint()
        self.hook_k_input = HookPoint()
        self.hook_v_input = HookPoint()
        self.hook_attn_out = HookPoint()
        self.hook_resid_post = HookPoint()
        if cfg.post_norm:
            self.hook_normalized_resid_post = HookPoint()

    def forward(
        self, resid: Resid, visible: Bool[Tensor, "#batch 1 query key"] | None, shortformer_pos: Resid | None = None
    ) -> Resid:
        """The residual stream after the block.

        `visible` says which keys each query sees (None: all, or all earlier); `shortformer_pos` is added to what
        queries and keys read, not to the residual stream (Press et al. 2021).
        """
        resid_pre = self.hook_resid_pre(resid)
        attn_out = self.hook_attn_out(self._attend(resid_pre, visible, shortformer_pos))
        return self.after_attention(resid_pre + attn_out)

    def after_attention(self, resid_mid: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """The block's output, from the residual stream to which attention has been added (before LN1 if post-norm)."""
        if self.mlp is None:
            return self._end_without_mlp(resid_mid)
        x = self.after_first_addition(self.hook_resid_mid(resid_mid))
        return self.after_mlp(x + self._run_mlp(x))

    def after_first_addition(self, resid_mid: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """What the MLP reads and is added to: the residual stream, or LN1 of it if post-norm."""
        return self.ln1(resid_mid) if self.post_norm else resid_mid

    def after_mlp(self, resid_post: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """The block's output, from the residual stream to which the MLP has been added (before LN2 if post-norm)."""
        if self.mlp is None:
            return self._end_without_mlp(resid_post)
        resid_post = self.hook_resid_post(resid_post)
        return self.hook_normalized_resid_post(self.ln2(resid_post)) if self.post_norm else resid_post

    def _end_without_mlp(self, resid: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        resid = self.hook_resid_post(resid)
        return self.hook_normalized_resid_post(self.ln1(resid)) if self.post_norm else resid

    def _attend(self, resid_pre: Resid, visible: Tensor | None, shortformer_pos: Resid | None) -> Resid:
        norm = nn.Identity() if self.post_norm else self.ln1
        if listens(self.hook_attn_in, self.hook_q_input, self.hook_k_input, self.hook_v_input):
            attn_in = self.hook_attn_in(repeat(resid_pre, "b p m -> b p h m", h=self.n_heads).clone())
            query = norm(self.hook_q_input(attn_in.clone()))
            key = norm(self.hook_k_input(attn_in.clone()))
            value = norm(self.hook_v_input(attn_in.clone()))
            position = None if shortformer_pos is None else shortformer_pos[:, :, None]
        else:
            query = key = value = norm(resid_pre)
            position = shortformer_pos
        if position is not None:
            query, key = query + position, key + position
        return self.attn(query, key, value, visible)

    def _run_mlp(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        assert self.mlp is not None
        norm = nn.Identity() if self.post_norm else self.ln2
        # A copy, so that an edit in place cannot reach the skip path.
        mlp_in = self.hook_mlp_in(x.clone()) if listens(self.hook_mlp_in) else x
        return self.hook_mlp_out(self.mlp(norm(mlp_in)))
