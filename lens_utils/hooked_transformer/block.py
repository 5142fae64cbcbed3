"""One transformer block, in both orders of LayerNorm."""

from einops import repeat
from jaxtyping import Bool
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
        return self.after_attention(resid_pre, attn_out)

    def after_attention(self, resid_pre: Resid, attn_out: Resid) -> Resid:
        """The rest of the block, which works position by position, from a given attention output."""
        return self._post_norm_rest(resid_pre, attn_out) if self.post_norm else self._pre_norm_rest(resid_pre, attn_out)

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

    def _run_mlp(self, x: Resid) -> Resid:
        assert self.mlp is not None
        norm = nn.Identity() if self.post_norm else self.ln2
        # A copy, so that an edit in place cannot reach the skip path.
        mlp_in = self.hook_mlp_in(x.clone()) if listens(self.hook_mlp_in) else x
        return self.hook_mlp_out(self.mlp(norm(mlp_in)))

    def _pre_norm_rest(self, resid_pre: Resid, attn_out: Resid) -> Resid:
        if self.mlp is None:
            return self.hook_resid_post(resid_pre + attn_out)
        resid_mid = self.hook_resid_mid(resid_pre + attn_out)
        return self.hook_resid_post(resid_mid + self._run_mlp(resid_mid))

    def _post_norm_rest(self, resid_pre: Resid, attn_out: Resid) -> Resid:
        if self.mlp is None:
            return self.hook_normalized_resid_post(self.ln1(self.hook_resid_post(resid_pre + attn_out)))
        x = self.ln1(self.hook_resid_mid(resid_pre + attn_out))
        return self.hook_normalized_resid_post(self.ln2(self.hook_resid_post(x + self._run_mlp(x))))
