"""The only place where hook strings are built: `pattern(0)` is `"blocks.0.attn.hook_pattern"`.

Names follow TransformerLens' HookedTransformer, so that its caches, its patching functions and published code fit.
"""

EMBED = "hook_embed"
POS_EMBED = "hook_pos_embed"
TOKEN_TYPE_EMBED = "hook_token_type_embed"
EMBED_LN_SCALE = "embed_ln.hook_scale"
EMBED_LN_NORMALIZED = "embed_ln.hook_normalized"
LN_FINAL_SCALE = "ln_final.hook_scale"
LN_FINAL_NORMALIZED = "ln_final.hook_normalized"
MLM_HEAD_PRE = "mlm_head.hook_pre"
MLM_HEAD_POST = "mlm_head.hook_post"
MLM_HEAD_LN_SCALE = "mlm_head.ln.hook_scale"


def block(layer: int, name: str) -> str:
    """Hook `name` of block `layer`, for the names without a function of their own."""
    return f"blocks.{layer}.{name}"


def resid_pre(layer: int) -> str:
    """Residual stream entering block `layer`; [batch, pos, d_model]."""
    return block(layer, "hook_resid_pre")


def resid_mid(layer: int) -> str:
    """Residual stream after attention is added (before LN1 of a post-LN block); [batch, pos, d_model]."""
    return block(layer, "hook_resid_mid")


def resid_post(layer: int) -> str:
    """Residual stream after the MLP is added (before LN2 of a post-LN block); [batch, pos, d_model]."""
    return block(layer, "hook_resid_post")


def normalized_resid_post(layer: int) -> str:
    """Output of a post-LN block, after its second LayerNorm; [batch, pos, d_model]."""
    return block(layer, "hook_normalized_resid_post")


def attn_out(layer: int) -> str:
    """Attention output, summed over heads, with b_O; [batch, pos, d_model]."""
    return block(layer, "hook_attn_out")


def mlp_out(layer: int) -> str:
    """MLP output, with b_out; [batch, pos, d_model]."""
    return block(layer, "hook_mlp_out")


def attn_in(layer: int) -> str:
    """Residual stream as read by each head; [batch, pos, head, d_model]."""
    return block(layer, "hook_attn_in")


def q_input(layer: int) -> str:
    """Residual stream as read by each head's queries; [batch, pos, head, d_model]."""
    return block(layer, "hook_q_input")


def k_input(layer: int) -> str:
    """Residual stream as read by each head's keys; [batch, pos, head, d_model]."""
    return block(layer, "hook_k_input")


def v_input(layer: int) -> str:
    """Residual stream as read by each head's values; [batch, pos, head, d_model]."""
    return block(layer, "hook_v_input")


def mlp_in(layer: int) -> str:
    """Residual stream as read by the MLP; [batch, pos, d_model]."""
    return block(layer, "hook_mlp_in")


def q(layer: int) -> str:
    """Queries; [batch, pos, head, d_head]."""
    return block(layer, "attn.hook_q")


def k(layer: int) -> str:
    """Keys; [batch, pos, head, d_head]."""
    return block(layer, "attn.hook_k")


def v(layer: int) -> str:
    """Values; [batch, pos, head, d_head]."""
    return block(layer, "attn.hook_v")


def z(layer: int) -> str:
    """Pattern-weighted values; [batch, pos, head, d_head]."""
    return block(layer, "attn.hook_z")


def result(layer: int) -> str:
    """Each head's output, z W_O without b_O; [batch, pos, head, d_model]."""
    return block(layer, "attn.hook_result")


def attn_scores(layer: int) -> str:
    """Attention scores before the softmax, masked entries -inf; [batch, head, query, key]."""
    return block(layer, "attn.hook_attn_scores")


def pattern(layer: int) -> str:
    """Attention probabilities; [batch, head, query, key]."""
    return block(layer, "attn.hook_pattern")


def mlp_pre(layer: int) -> str:
    """Neuron pre-activations; [batch, pos, d_mlp]."""
    return block(layer, "mlp.hook_pre")


def mlp_post(layer: int) -> str:
    """Neuron activations after the non-linearity; [batch, pos, d_mlp]."""
    return block(layer, "mlp.hook_post")


def ln_scale(layer: int, which: int) -> str:
    """Standard deviation by which LayerNorm `which` (1 or 2) of block `layer` divides; [batch, pos, 1]."""
    return block(layer, f"ln{which}.hook_scale")


def ln_normalized(layer: int, which: int) -> str:
    """Output of LayerNorm `which` (1 or 2) of block `layer` before gain and bias; [batch, pos, d_model]."""
    return block(layer, f"ln{which}.hook_normalized")
