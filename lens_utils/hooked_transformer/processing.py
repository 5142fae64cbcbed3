"""Weight processing that leaves the model's log-probabilities alone and makes its parts easier to read.

Each step is an identity of the architecture (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"):

- LayerNorm's gain and bias are linear, so they belong to the weights that read its output;
- LayerNorm ignores the mean of the residual stream, so nothing needs to write one;
- log-probabilities ignore what is added to all logits alike;
- attention rows sum to 1, so value biases add the same vector everywhere and belong to b_O.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from lens_utils.hooked_transformer.components import Attention, LayerNorm
from lens_utils.hooked_transformer.config import HookedTransformerConfig
from lens_utils.hooked_transformer.model import HookedTransformer

MAX_LOG_PROB_CHANGE = 1e-8
"""Largest change of any log-probability, measured in float64, that `fold` accepts."""


@torch.no_grad()
def fold(model: HookedTransformer) -> HookedTransformer:
    """A new model with LayerNorm folded, writing weights and unembedding centred, and value biases folded into b_O.

    Without LayerNorm only the last two apply. The given model is not changed. The work is done in float64, and the
    log-probabilities of random tokens are compared before and after; a difference is an error, never a warning.
    Raises `ValueError` where folding would change the model: post-norm blocks, a masked-language-model head, and
    shortformer positions behind a LayerNorm with gains.
    """
    refuse_unfoldable(model)
    exact = _copy(model, replace(model.cfg, dtype=torch.float64))
    folded = _copy(exact, exact.cfg)
    _fold_layer_norms(folded)
    if model.cfg.normalization_type is not None:
        _centre_writing_weights(folded)
        folded = _copy(folded, replace(folded.cfg, normalization_type="LNPre"))
    folded.W_U.sub_(folded.W_U.mean(-1, keepdim=True))
    folded.b_U.sub_(folded.b_U.mean())
    for block in folded.blocks:
        _fold_value_bias(block.attn)
    change = _log_prob_change(exact, folded)
    if not change <= MAX_LOG_PROB_CHANGE:
        raise ValueError(f"folding {model.cfg.model_name!r} changed a log-probability by {change:.2g}; not folded")
    return _copy(folded, replace(folded.cfg, dtype=model.cfg.dtype))


def refuse_unfoldable(model: HookedTransformer) -> None:
    """Raise `ValueError` with the reason if folding would change what the model computes."""
    cfg = model.cfg
    name = f"processing='folded': {cfg.model_name!r}"
    if cfg.post_norm:
        raise ValueError(
            f"{name} normalises after each addition (post-norm), so LayerNorm's gain and bias enter the residual "
            "stream itself and cannot be folded; use processing='none' with the frozen-LayerNorm decomposition"
        )
    if cfg.mlm_head:
        raise ValueError(f"{name} has a masked-language-model head between the last LayerNorm and the unembedding")
    shortformer = cfg.positional_embedding_type == "shortformer"
    if shortformer and any(_has_gain(block.ln1) for block in model.blocks):
        raise ValueError(
            f"{name} adds shortformer positions after a LayerNorm with gains: queries and keys read the sum, so the "
            "gains cannot be folded into W_Q and W_K; use processing='none'"
        )


def _has_gain(ln: nn.Module) -> bool:
    return isinstance(ln, LayerNorm) and ln.w is not None and not torch.equal(ln.w, torch.ones_like(ln.w))


def _copy(model: HookedTransformer, cfg: HookedTransformerConfig) -> HookedTransformer:
    new = HookedTransformer(cfg, model.tokenizer, init_weights=False)
    kept = new.state_dict().keys()
    new.load_state_dict({name: weight for name, weight in model.state_dict().items() if name in kept})
    new.provenance = model.provenance
    return new.train(model.training)


def _fold_layer_norms(model: HookedTransformer) -> None:
    # What reads positions beside the normalised stream must keep its mean.
    reads_positions = model.cfg.positional_embedding_type == "shortformer"
    for block in model.blocks:
        attn = block.attn
        if not isinstance(block.ln1, LayerNorm):
            continue
        for weight, bias in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K)):
            _fold_into(block.ln1, weight, bias, centre=not reads_positions)
        _fold_into(block.ln1, attn.W_V, attn.b_V)
        if block.mlp is not None and isinstance(block.ln2, LayerNorm):
            _fold_into(block.ln2, block.mlp.W_in, block.mlp.b_in)
    if isinstance(model.ln_final, LayerNorm):
        _fold_into(model.ln_final, model.W_U, model.b_U)


def _fold_into(ln: LayerNorm, weight: Tensor, bias: Tensor, *, centre: bool = True) -> None:
    """Fold gain and bias of `ln` into `weight [..., d_model, d_out]` and `bias [..., d_out]`, in place."""
    if ln.w is not None and ln.b is not None:
        bias.add_(ln.b @ weight)
        weight.mul_(ln.w[:, None])
    if centre:
        weight.sub_(weight.mean(-2, keepdim=True))


def _centre_writing_weights(model: HookedTransformer) -> None:
    writing = [model.W_E]
    if model.cfg.positional_embedding_type == "standard":
        writing.append(model.W_pos)
    for block in model.blocks:
        writing += [block.attn.W_O, block.attn.b_O]
        if block.mlp is not None:
            writing += [block.mlp.W_out, block.mlp.b_out]
    for weight in writing:
        weight.sub_(weight.mean(-1, keepdim=True))


def _fold_value_bias(attn: Attention) -> None:
    attn.b_O.add_((attn.b_V[:, None] @ attn.W_O).sum((0, 1)))
    attn.b_V.zero_()


def _log_prob_change(before: HookedTransformer, after: HookedTransformer) -> float:
    generator = torch.Generator().manual_seed(0)
    n_pos = min(before.cfg.n_ctx, 16)
    tokens = torch.randint(before.cfg.d_vocab, (2, n_pos), generator=generator).to(before.device)
    return float((before(tokens).log_softmax(-1) - after(tokens).log_softmax(-1)).abs().max())
