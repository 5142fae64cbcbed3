"""Logits as a sum over paths (Elhage et al. 2021): with patterns and LayerNorm scales frozen, everything is linear.

A path starts at the token and position embeddings (or at a bias), goes through heads h1, h2, ... of rising layers, each
moving information along its pattern A and through its W_V W_O, and ends in W_U. Its order is its number of heads:

- order 0, the direct path: x W_U
- order 1, each head: A_h x W_OV_h W_U
- order 2, virtual heads: A_h2 A_h1 x W_OV_h1 W_OV_h2 W_U

Biases (b_V W_O, b_O) start paths of their own, which are summed in one term with all that later heads make of them.
In the order of Kronecker products: the whole layer is Id + sum over heads of A_h x W_OV_h acting on [pos, d_model].
"""

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.circuits.weights import centred, check_paths
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.prompts import TokenizedText

TOLERANCE = 1e-4
"""Largest departure of a sum of paths from the model's own logits or scores, float32, in their units."""


@dataclass(frozen=True)
class FrozenRun:
    """One text's run with everything held fixed that is not linear."""

    model: HookedTransformer
    text: TokenizedText
    embedded: Float[Tensor, "pos d_model"]
    """Token embedding."""
    positions: Float[Tensor, "pos d_model"]
    """Position embedding where it is added to the residual stream; zeros where it is not."""
    beside: Float[Tensor, "pos d_model"]
    """Position embedding where only queries and keys read it (shortformer); zeros elsewhere."""
    patterns: tuple[Float[Tensor, "head query key"], ...]
    """By layer."""
    scores: tuple[Float[Tensor, "head query key"], ...]
    """By layer; masked entries are -inf."""
    scales: tuple[Float[Tensor, "pos 1"], ...]
    """LN1's denominators by layer; ones without LayerNorm."""
    final_scale: Float[Tensor, "pos 1"]
    logits: Float[Tensor, "pos vocab"]

    @property
    def start(self) -> Float[Tensor, "pos d_model"]:
        """The residual stream entering layer 0."""
        return self.embedded + self.positions


def frozen_hooks(model: HookedTransformer) -> tuple[str, ...]:
    """The hooks that `freeze` reads."""
    layers, cfg = range(model.cfg.n_layers), model.cfg
    names = (hook_names.pattern, hook_names.attn_scores)
    hooks = [hook_names.EMBED, *(name(layer) for layer in layers for name in names)]
    if cfg.positional_embedding_type != "none":
        hooks.append(hook_names.POS_EMBED)
    if cfg.normalization_type is not None:
        hooks += [*(hook_names.ln_scale(layer, 1) for layer in layers), hook_names.LN_FINAL_SCALE]
    return tuple(hooks)


def freeze(model: HookedTransformer, text: TokenizedText) -> FrozenRun:
    """Run a text once and hold its patterns and scales; `ValueError` with the reason where paths do not sum up."""
    check_paths(model)
    layers, cfg, hooks = range(model.cfg.n_layers), model.cfg, list(frozen_hooks(model))
    with torch.inference_mode():
        logits, cache = model.run_with_cache(text.tokens.unsqueeze(0).to(model.device), names_filter=hooks)
    embedded = cache[hook_names.EMBED][0]
    ones, nothing = torch.ones_like(embedded[:, :1]), torch.zeros_like(embedded)
    pos = cache[hook_names.POS_EMBED][0].expand_as(embedded) if hook_names.POS_EMBED in hooks else nothing
    shortformer, has_norm = cfg.positional_embedding_type == "shortformer", cfg.normalization_type is not None
    return FrozenRun(
        model,
        text,
        embedded,
        nothing if shortformer else pos,
        pos if shortformer else nothing,
        tuple(cache[hook_names.pattern(layer)][0] for layer in layers),
        tuple(cache[hook_names.attn_scores(layer)][0] for layer in layers),
        tuple(cache[hook_names.ln_scale(layer, 1)][0] if has_norm else ones for layer in layers),
        cache[hook_names.LN_FINAL_SCALE][0] if has_norm else ones,
        logits[0],
    )


@torch.no_grad()
def through_head(
    run: FrozenRun, layer: int, head: int, vectors: Float[Tensor, "pos d_model"]
) -> Float[Tensor, "pos d_model"]:
    """What one head makes of a part of the residual stream before it: A (x / s) W_V W_O."""
    return through_layer(run, layer, vectors, heads=[head])


@torch.no_grad()
def through_layer(
    run: FrozenRun, layer: int, vectors: Float[Tensor, "pos d_model"], *, heads: list[int] | None = None
) -> Float[Tensor, "pos d_model"]:
    """The same, summed over these heads of a layer (all of them by default)."""
    attn = run.model.blocks[layer].attn
    chosen = list(range(run.model.cfg.n_heads)) if heads is None else heads
    read = centred(run.model, vectors) / run.scales[layer]
    values = einsum(read, attn.W_V[chosen], "k m, h m d -> h k d")
    return einsum(run.patterns[layer][chosen] @ values, attn.W_O[chosen], "h q d, h d m -> q m")


@torch.no_grad()
def through_unembedding(
    run: FrozenRun, vectors: Float[Tensor, "*part pos d_model"]
) -> Float[Tensor, "*part pos vocab"]:
    """Logits that parts of the last residual stream give, b_U left out."""
    return centred(run.model, vectors) / run.final_scale @ run.model.W_U


@dataclass(frozen=True)
class Orders:
    """The last residual stream as a sum over the number of heads on the path, and the biases' share."""

    by_order: Float[Tensor, "order pos d_model"]
    """From order 0 to the number of layers."""
    biases: Float[Tensor, "pos d_model"]

    def up_to(self, order: int) -> Float[Tensor, "pos d_model"]:
        """Paths of at most that many heads, and the biases."""
        return self.by_order[: order + 1].sum(0) + self.biases


@torch.no_grad()
def path_orders(run: FrozenRun) -> Orders:
    """Paths of each order, any depth: a layer turns what it reads of order n into order n + 1."""
    n_layers = run.model.cfg.n_layers
    by_order = torch.stack([run.start, *(torch.zeros_like(run.start) for _ in range(n_layers))])
    biases = torch.zeros_like(run.start)
    for layer in range(n_layers):
        attn = run.model.blocks[layer].attn
        biases = biases + through_layer(run, layer, biases)
        biases = biases + attn.b_O + einsum(attn.b_V, attn.W_O, "h d, h d m -> m")
        moved = torch.stack([through_layer(run, layer, by_order[order]) for order in range(layer + 1)])
        by_order[1 : layer + 2] += moved
    return Orders(by_order, biases)


@torch.no_grad()
def head_terms(run: FrozenRun, layer: int) -> Float[Tensor, "head pos d_model"]:
    """Order 1: what each head of a layer makes of the embeddings alone."""
    return torch.stack([through_head(run, layer, head, run.start) for head in range(run.model.cfg.n_heads)])


@torch.no_grad()
def virtual_terms(run: FrozenRun, early: int, late: int) -> Float[Tensor, "sender receiver pos d_model"]:
    """Order 2: what each head of layer `late` makes of what each head of layer `early` makes of the embeddings."""
    heads = range(run.model.cfg.n_heads)
    return torch.stack(
        [torch.stack([through_head(run, late, head, term) for head in heads]) for term in head_terms(run, early)]
    )


def virtual_patterns(run: FrozenRun, early: int, late: int) -> Float[Tensor, "sender receiver query key"]:
    """A2 A1 of every pair: where a virtual head moves information from; rows sum to 1."""
    return einsum(run.patterns[late], run.patterns[early], "r q m, s m k -> s r q k")


@torch.no_grad()
def answer_logits(run: FrozenRun, vectors: Float[Tensor, "*term pos d_model"]) -> Float[Tensor, "*term answer"]:
    """What each part gives the next token of the text over the mean logit, at all positions but the last, in nats."""
    w_u = run.model.W_U
    targets = w_u[:, run.text.tokens[1:].to(w_u.device)] - w_u.mean(-1, keepdim=True)
    read = (centred(run.model, vectors) / run.final_scale)[..., :-1, :]
    return einsum(read, targets, "... p m, m p -> ... p")


@torch.no_grad()
def logits_identity(run: FrozenRun, orders: Orders) -> Identity:
    """Direct path + heads + virtual heads + ... + biases = the model's logits, over all positions and tokens."""
    total = through_unembedding(run, orders.by_order.sum(0) + orders.biases) + run.model.b_U
    error = float((total - run.logits).abs().max())
    terms = " + ".join(["direct path", *(f"paths through {n} heads" for n in range(1, run.model.cfg.n_layers + 1))])
    return Identity("paths sum to the logits", f"{terms} + biases = logits, patterns frozen (nats)", error, TOLERANCE)


@torch.no_grad()
def order_losses(run: FrozenRun, orders: Orders) -> Float[Tensor, "order"]:
    """Mean next-token loss in nats with paths of at most 0, 1, ... heads (biases kept, patterns and scales frozen)."""
    targets = run.text.tokens[1:].to(run.logits.device)
    losses = []
    for order in range(len(orders.by_order)):
        logits = through_unembedding(run, orders.up_to(order)) + run.model.b_U
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], targets))
    return torch.stack(losses)


@torch.no_grad()
def removal_costs(run: FrozenRun, vectors: Float[Tensor, "*term pos d_model"]) -> Float[Tensor, "*term"]:
    """Rise of the mean next-token loss in nats when one part at a time is taken out of the logits, all else held."""
    targets = run.text.tokens[1:].to(run.logits.device)

    def loss(logits: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits[:-1], targets)

    whole = loss(run.logits)
    flat = vectors.reshape(-1, *vectors.shape[-2:])
    costs = torch.stack([loss(run.logits - through_unembedding(run, vector)) - whole for vector in flat])
    return costs.reshape(vectors.shape[:-2])
