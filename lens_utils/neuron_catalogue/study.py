"""The catalogue of a model's neurons: one pass over texts, a sample of them in detail, the weights, the ablations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation import LossInput, loss_input
from lens_utils.activations import cache_hooks
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.mlp.identities import mlp_identities
from lens_utils.mlp.study import layer_relations
from lens_utils.neuron_catalogue.directions import WeightReading, read_weights
from lens_utils.neuron_catalogue.effects import AblationEffects, ablation_effects, ablation_identity, loss_parts
from lens_utils.neuron_catalogue.links import Link, rank_link
from lens_utils.neuron_catalogue.names import Neuron
from lens_utils.neuron_catalogue.paths import logit_path_identity, norms_before, norms_behind
from lens_utils.neuron_catalogue.stream import (
    Context,
    NeuronStream,
    Streamed,
    contexts,
    stream_identities,
    stream_neurons,
)
from lens_utils.neurons import ClassReactions, Correlations
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.statistics import benjamini_hochberg

Q_NAMES = ("rise", "output_size", "output_kurtosis", "input_kurtosis", "cosine")
"""Tests of one p a neuron; classes and heads have many and bring their own q."""
CHECKED_TEXTS = 4
"""Texts on which the sums inside a block are checked."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to list and to test."""

    contexts: int
    top: int
    sample: int
    predicted: int
    shuffles: int
    directions: int
    shown: int
    seed: int


@dataclass(frozen=True)
class LayerCatalogue:
    """The neurons of one block."""

    layer: int
    stream: NeuronStream
    weights: WeightReading
    reactions: ClassReactions
    correlations: Correlations
    effects: AblationEffects
    selectivity: Float64[Tensor, " neuron"]
    """Largest |rank-biserial correlation| with a word class; 0 where no class has enough tokens."""
    best_class: Int[Tensor, " neuron"]
    """Row of `reactions` it belongs to; -1 for none."""
    link: Link
    """Selectivity with rise."""


@dataclass(frozen=True)
class Confirmation:
    """Rises of the shown neurons on texts that had no part in choosing them."""

    effects: AblationEffects
    """Of the shown neurons, in their order; loss, texts and tokens are those of all."""
    q: Float64[Tensor, " shown"]
    """Benjamini-Hochberg over the shown neurons."""


@dataclass(frozen=True)
class Catalogue:
    """Everything the tables and figures show."""

    layers: tuple[LayerCatalogue, ...]
    q: dict[str, tuple[Float64[Tensor, " neuron"], ...]]
    """By test of `Q_NAMES`, then by block: Benjamini-Hochberg over all neurons of the model."""
    shown: tuple[Neuron, ...]
    confirmation: Confirmation | None
    """None where all texts are in the sample."""
    contexts: tuple[Context, ...]
    strings: tuple[str, ...]
    """Every token of the vocabulary as text."""
    source: str
    n_texts: int
    n_tokens: int
    sample: tuple[TokenizedText, ...]
    n_heads: int
    post_norm: bool
    has_norm: bool
    identities: tuple[Identity, ...]
    hooks: tuple[str, ...]
    seed: int


def check_loss(model: HookedTransformer) -> None:
    """Raise `ValueError` for a masked model that cannot be asked, as its tokenizer has no mask token."""
    if model.cfg.is_masked and getattr(model.tokenizer, "mask_token_id", None) is None:
        raise ValueError(
            f"model {model.cfg.model_name!r}: its tokenizer has no mask token, so that no loss is defined; choose a "
            "model that has one"
        )


def study_neurons(
    model: HookedTransformer, texts: Iterable[TokenizedText], source: str, neurons: Sequence[Neuron], plan: Plan
) -> Catalogue:
    """Stream the texts, then study every neuron of every block; `neurons` are shown, or without any the strongest."""
    check_loss(model)
    streamed = stream_neurons(model, texts, k=plan.contexts, n_sample=plan.sample, seed=plan.seed)
    parts = loss_parts(model, streamed.sample, most=plan.predicted)
    every = range(model.cfg.n_layers)
    layers = tuple(_layer(model, n, streamed.layers[n], streamed.sample, parts, plan) for n in track(every, "blocks"))
    shown = tuple(neurons) or strongest_neurons(layers, plan.shown)
    found = contexts(model, streamed.layers, shown)
    checks = [
        ablation_identity(model, parts, each.layer, each.effects, each.stream.moments.mean.to(model.W_U.dtype))
        for each in layers
    ]
    return Catalogue(
        layers,
        {name: _adjusted([_p_of(each, name) for each in layers]) for name in Q_NAMES},
        shown,
        confirm(model, streamed, shown, seed=plan.seed),
        found,
        tuple(model.to_str_tokens(list(range(model.cfg.d_vocab)))),
        source,
        streamed.n_texts,
        streamed.n_tokens,
        streamed.sample,
        model.cfg.n_heads,
        model.cfg.post_norm,
        model.cfg.normalization_type is not None,
        (
            *mlp_identities(model, streamed.sample[:CHECKED_TEXTS]),
            *stream_identities(streamed, found),
            logit_path_identity(model, parts),
            max(checks, key=lambda check: check.error),
        ),
        hooks_read(model),
        plan.seed,
    )


def _layer(
    model: HookedTransformer,
    layer: int,
    stream: NeuronStream,
    sample: tuple[TokenizedText, ...],
    parts: tuple[LossInput, ...],
    plan: Plan,
) -> LayerCatalogue:
    batch = cache_hooks(model, sample, [hook_names.mlp_post(layer), hook_names.pattern(layer)])
    reactions, correlations = layer_relations(batch, layer, seed=plan.seed, n_shuffles=plan.shuffles)
    weights = read_weights(model, layer, parts, k=plan.top, n_random=plan.directions, seed=plan.seed)
    means = stream.moments.mean.to(model.W_U.dtype)
    effects = ablation_effects(model, parts, layer, means=means, seed=plan.seed)
    selectivity, best = torch.zeros_like(effects.rise), torch.full(effects.rise.shape, -1)
    if reactions.classes:
        selectivity, best = reactions.effect.abs().max(0)
    link = rank_link(selectivity, effects.rise, seed=plan.seed)
    return LayerCatalogue(layer, stream, weights, reactions, correlations, effects, selectivity, best, link)


def _p_of(each: LayerCatalogue, name: str) -> Tensor:
    return each.effects.p if name == "rise" else getattr(each.weights, name).p


def _adjusted(parts: Sequence[Tensor]) -> tuple[Float64[Tensor, " neuron"], ...]:
    return benjamini_hochberg(torch.cat(list(parts)).double()).split([len(part) for part in parts])


def strongest_neurons(layers: Sequence[LayerCatalogue], n: int) -> tuple[Neuron, ...]:
    """The n neurons of the model without which the loss rises most, first the one that matters most."""
    rises = [(float(rise), each.layer, at) for each in layers for at, rise in enumerate(each.effects.rise)]
    ordered = sorted(rises, key=lambda entry: (-entry[0], *entry[1:]))
    return tuple((layer, neuron) for _, layer, neuron in ordered[:n])


def confirm(
    model: HookedTransformer, streamed: Streamed, neurons: Sequence[Neuron], *, seed: int
) -> Confirmation | None:
    """Ablate the neurons once more, on all predicted tokens of the fresh texts; None without fresh texts."""
    if not streamed.fresh or loss_input(model, streamed.fresh) is None:
        return None
    parts, found = loss_parts(model, streamed.fresh, most=None), {}
    for layer in sorted({layer for layer, _ in neurons}):
        own = [neuron for at, neuron in neurons if at == layer]
        means = streamed.layers[layer].moments.mean.to(model.W_U.dtype)
        effects = ablation_effects(model, parts, layer, means=means, seed=seed, neurons=own)
        found |= {(layer, neuron): (effects, row) for row, neuron in enumerate(own)}
    columns = {
        name: torch.stack([getattr(found[neuron][0], name)[found[neuron][1]] for neuron in neurons])
        for name in ("rise", "low", "high", "p")
    }
    return Confirmation(replace(found[neurons[0]][0], **columns), benjamini_hochberg(columns["p"]))


def hooks_read(model: HookedTransformer) -> tuple[str, ...]:
    """The hooks of every block that the catalogue reads."""
    names = (hook_names.mlp_pre, hook_names.mlp_post, hook_names.pattern, hook_names.resid_post)
    hooks = [name(layer) for layer in range(model.cfg.n_layers) for name in names]
    norms = [
        norm
        for layer in range(model.cfg.n_layers)
        for way in (norms_before, norms_behind)
        for norm in way(model, layer)
    ]
    head = (
        [hook_names.MLM_HEAD_PRE, hook_names.MLM_HEAD_POST, hook_names.MLM_HEAD_LN_SCALE] if model.cfg.mlm_head else []
    )
    return tuple(dict.fromkeys([*hooks, *(name for _, name in norms), *head]))
