"""Direct paths from the embedding to a block's neurons and from them to the logits, through every LayerNorm.

A LayerNorm divides by a scale that depends on the text. With the scales (and, in a masked-LM head, the gate
act(h) / h of its activation function) held at what they are at a position, each path is a linear map, and the mean of
the maps over positions is one too: its result is exactly the mean of the results. Paths through attention and through
later MLPs are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation import LossInput
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.components import LayerNorm
from lens_utils.identities import Identity

Norm = tuple[Any, str]
"""A LayerNorm and the name of its hook_scale."""


def norms_before(model: HookedTransformer, layer: int) -> tuple[Norm, ...]:
    """The LayerNorms that the embedding passes on its way to the input of block `layer`'s MLP."""
    blocks: Any = model.blocks
    passed: list[Norm] = [(model.embed_ln, hook_names.EMBED_LN_SCALE)] if model.cfg.embed_norm else []
    if model.cfg.post_norm:
        passed += [_of_block(blocks, at, which) for at in range(layer) for which in (1, 2)]
        return (*passed, _of_block(blocks, layer, 1))
    return (*passed, _of_block(blocks, layer, 2)) if model.cfg.normalization_type else tuple(passed)


def norms_behind(model: HookedTransformer, layer: int) -> tuple[Norm, ...]:
    """The LayerNorms that what block `layer`'s MLP writes passes on its way to the unembedding or masked-LM head."""
    blocks: Any = model.blocks
    if model.cfg.post_norm:
        later = range(layer + 1, model.cfg.n_layers)
        return (_of_block(blocks, layer, 2), *(_of_block(blocks, at, which) for at in later for which in (1, 2)))
    return ((model.ln_final, hook_names.LN_FINAL_SCALE),) if model.cfg.normalization_type else ()


def _of_block(blocks: Any, layer: int, which: int) -> Norm:
    return getattr(blocks[layer], f"ln{which}"), hook_names.ln_scale(layer, which)


def through(norms: Sequence[Norm], vectors: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    """The vectors centred and multiplied by the gain of each LayerNorm in turn, not yet divided by the scales."""
    for norm, _ in norms:
        vectors = vectors - vectors.mean(-1, keepdim=True)
        vectors = vectors if norm.w is None else vectors * norm.w
    return vectors


@dataclass(frozen=True)
class Frozen:
    """What the texts set at each position whose logits enter the loss."""

    inverse_scale: Float[Tensor, "predicted 1"]
    """Product of 1 / scale over the LayerNorms of the path."""
    gate: Float[Tensor, "predicted d_model"] | None
    """act(h) / h of the masked-LM head over the scale of its LayerNorm; None without such a head."""

    @property
    def factor(self) -> Float[Tensor, "predicted width"]:
        """All that multiplies a vector at each position."""
        return self.inverse_scale if self.gate is None else self.inverse_scale * self.gate


def frozen_path(
    model: HookedTransformer,
    parts: Sequence[LossInput],
    norms: Sequence[Norm],
    *,
    head: bool = False,
    hooks: Sequence[str] = (),
) -> tuple[Frozen, dict[str, Tensor]]:
    """Scales (with `head` the masked-LM head's gate) at the scored positions, and the logits and `hooks` there."""
    own = [hook_names.MLM_HEAD_PRE, hook_names.MLM_HEAD_POST, hook_names.MLM_HEAD_LN_SCALE] if head else []
    scales = [name for _, name in norms]
    names = list(dict.fromkeys([*scales, *own, *hooks]))
    with torch.inference_mode():
        runs = [_scored_values(model, given, names) for given in parts]
        found = {name: torch.cat([run[name] for run in runs]) for name in runs[0]}
        inverse = torch.ones_like(found["logits"][:, :1])
        for name in scales:
            inverse = inverse / found[name]
        gate = None
        if head:
            pre, post, scale = (found[name] for name in own)
            # Where h is 0 its parts sum to 0, whatever the gate
            gate = torch.where(pre == 0, 0.0, post / pre) / scale
    return Frozen(inverse, gate), found


def _scored_values(model: HookedTransformer, given: LossInput, names: Sequence[str]) -> dict[str, Tensor]:
    scored = given.scored.to(model.device)
    logits, cache = model.run_with_cache(
        given.tokens.to(model.device), attention_mask=given.mask.to(model.device), names_filter=list(names)
    )
    return {name: cache[name][scored] for name in names} | {"logits": logits[scored]}


@dataclass(frozen=True)
class LogitPath:
    """From what block `layer`'s MLP writes to the logits, on text."""

    model: HookedTransformer
    norms: tuple[Norm, ...]
    frozen: Frozen

    @classmethod
    def of(cls, model: HookedTransformer, layer: int, parts: Sequence[LossInput]) -> "LogitPath":
        """The path with the scales and gates that the texts set."""
        norms = norms_behind(model, layer)
        return cls(model, norms, frozen_path(model, parts, norms, head=model.cfg.mlm_head)[0])

    def mean_logits(self, vectors: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Mean over positions of what each vector adds to the logits, above the mean over tokens; nats."""
        with torch.inference_mode():
            logits = self.logits(vectors, self.frozen.factor.mean(0, keepdim=True))
            return logits - logits.mean(-1, keepdim=True)

    def logits(
        self, vectors: Float[Tensor, "row d_model"], factor: Float[Tensor, "#row width"]
    ) -> Float[Tensor, "row vocab"]:
        """What each vector adds to the logits where the text multiplies by `factor`."""
        return self._unembedded(through(self.norms, vectors), factor)

    def _unembedded(self, passed: Tensor, factor: Tensor) -> Tensor:
        if not self.model.cfg.mlm_head:
            return passed * factor @ self.model.W_U
        head: Any = self.model.mlm_head
        return through([(head.ln, "")], passed @ head.W * factor) @ self.model.W_U

    def constant(self) -> Float[Tensor, "predicted vocab"]:
        """What biases behind the last block add to the logits at each position (paths of at most one LayerNorm)."""
        bias = torch.zeros_like(self.model.W_U[:, 0])
        for norm, _ in self.norms:
            bias = bias if norm.b is None else norm.b
        if not self.model.cfg.mlm_head:
            return (bias @ self.model.W_U + self.model.b_U).unsqueeze(0)
        head: Any = self.model.mlm_head
        inner = (bias @ head.W + head.b) * self.frozen.gate
        outer = through([(head.ln, "")], inner) + (0.0 if head.ln.b is None else head.ln.b)
        return outer @ self.model.W_U + self.model.b_U


def logit_path_identity(model: HookedTransformer, parts: Sequence[LossInput]) -> Identity:
    """The path behind the last block, applied to all that leaves it, gives the model's logits at every position."""
    layer = model.cfg.n_layers - 1
    norms, hook = norms_behind(model, layer), hook_names.resid_post(layer)
    frozen, found = frozen_path(model, parts, norms, head=model.cfg.mlm_head, hooks=[hook])
    path = LogitPath(model, norms, frozen)
    with torch.inference_mode():
        added = path.logits(found[hook], frozen.factor) + path.constant()
        error, top = float((added - found["logits"]).abs().max()), float(found["logits"].abs().max())
    statement = "frozen LayerNorm and gate of resid_post of the last block, + biases = logits"
    return Identity("frozen path to the logits", statement, error, 1e-4 * max(1.0, top / 30))


def token_inputs(model: HookedTransformer, layer: int, parts: Sequence[LossInput]) -> Float[Tensor, "vocab d_model"]:
    """W_E as block `layer`'s MLP reads it directly: every LayerNorm applied, scales at their mean on text, no position.

    The mean of 1 / scale is over the positions whose logits enter the loss.
    """
    norms = norms_before(model, layer)
    with torch.inference_mode():
        return through(norms, model.W_E) * frozen_path(model, parts, norms)[0].inverse_scale.mean()


def residual_directions(
    model: HookedTransformer, layer: int
) -> tuple[Float[Tensor, "neuron d_model"], Float[Tensor, "neuron d_model"]]:
    """(W_in^T, W_out) as directions of one residual stream: LN2's gain folded into W_in and both centred (pre-norm).

    In post-norm blocks the MLP reads and adds to the same stream, behind LN1: both are as they are.
    """
    block: Any = model.blocks[layer]
    reading, writing = block.mlp.W_in.detach().T, block.mlp.W_out.detach()
    if model.cfg.post_norm or not isinstance(block.ln2, LayerNorm):
        return reading, writing
    if block.ln2.w is not None:
        reading = reading * block.ln2.w.detach()
    return tuple(each - each.mean(-1, keepdim=True) for each in (reading, writing))  # pyright: ignore
