"""Measure a model's MLP activations: a stream of texts in one pass, then a bounded sample of them in detail."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.ablation import AblationCurve, ablation_curve, loss_input
from lens_utils.activation_statistics import ActivationStatistics
from lens_utils.activations import ActivationBatch, cache_hooks, stream_activations
from lens_utils.distributions import Comparison, compare_texts
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.neurons import (
    ClassReactions,
    Correlations,
    TokenExtremes,
    class_reactions,
    correlate_within_texts,
    head_features,
)
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.quantities import Quantity, TokenRows
from lens_utils.streaming import RELATIVE_ERROR

SAMPLE_TOKENS = 4096
"""The sample's activations are held together: it ends before the text that would exceed this many tokens."""


@dataclass(frozen=True)
class StreamStudy:
    """What one pass over the texts found."""

    statistics: dict[str, ActivationStatistics]
    """By quantity label."""
    neurons: dict[int, TokenExtremes]
    """By layer: highest and lowest tokens of each neuron."""
    outputs: dict[int, TokenExtremes]
    """By layer: the tokens at which some coordinate of hook_mlp_out is highest or lowest (each token once)."""
    sample: tuple[TokenizedText, ...]
    """Up to `n_sample` texts drawn uniformly (reservoir), in their order; all texts when there are no more."""
    n_texts: int
    n_tokens: int


def stream_study(
    model: HookedTransformer,
    texts: Iterable[TokenizedText],
    quantities: Sequence[Quantity],
    *,
    exact_limit: int,
    n_sample: int,
    seed: int,
) -> StreamStudy:
    """Read the texts once, batch by batch, in memory that does not grow with their number."""
    statistics = {quantity.label: ActivationStatistics(exact_limit=exact_limit) for quantity in quantities}
    layers = range(model.cfg.n_layers)
    neurons = {layer: TokenExtremes(5) for layer in layers}
    outputs = {layer: TokenExtremes(10) for layer in layers}
    reservoir = Reservoir(n_sample, seed)
    read = {hook_names.mlp_post(layer) for layer in layers} | {hook_names.mlp_out(layer) for layer in layers}
    hooks = sorted(read | {quantity.hook for quantity in quantities})
    for batch in track(stream_activations(model, reservoir.watch(texts), hooks), "batches"):
        rows = TokenRows.of(batch)
        for quantity in quantities:
            statistics[quantity.label].add(quantity.of(batch), rows)
        nowhere = torch.zeros(len(rows.places), 1, dtype=torch.long)
        for layer in layers:
            places = torch.cat([rows.places, nowhere], dim=1)
            neurons[layer].add(batch.real(hook_names.mlp_post(layer)).cpu(), places, batch.texts)
            outputs[layer].add_ends(batch.real(hook_names.mlp_out(layer)).cpu(), rows.places, batch.texts)
    return StreamStudy(statistics, neurons, outputs, reservoir.kept(), reservoir.n_texts, reservoir.n_tokens)


class Reservoir:
    """A uniform sample of the texts that pass by (Vitter's algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._random = size, random.Random(seed)
        self._texts: list[TokenizedText] = []
        self.n_texts = self.n_tokens = 0

    def watch(self, texts: Iterable[TokenizedText]) -> Iterator[TokenizedText]:
        """The same texts, each counted and perhaps kept as it passes."""
        for text in texts:
            self.n_texts += 1
            self.n_tokens += len(text)
            if len(self._texts) < self._size:
                self._texts.append(text)
            elif (slot := self._random.randrange(self.n_texts)) < self._size:
                self._texts[slot] = text
            yield text

    def kept(self) -> tuple[TokenizedText, ...]:
        """The sample in the order of its texts, within `SAMPLE_TOKENS`."""
        return within_tokens(self.texts, SAMPLE_TOKENS)

    @property
    def texts(self) -> tuple[TokenizedText, ...]:
        """All texts of the sample, as drawn."""
        return tuple(self._texts)


def within_tokens(texts: Sequence[TokenizedText], limit: int) -> tuple[TokenizedText, ...]:
    """The texts before the one that would exceed `limit` tokens (the first at any rate), in their order."""
    chosen, n_tokens = [], 0
    for text in texts:
        n_tokens += len(text)
        if chosen and n_tokens > limit:
            break
        chosen.append(text)
    return tuple(sorted(chosen, key=lambda text: text.index))


@dataclass(frozen=True)
class LayerStudy:
    """One block in detail, on the sample."""

    layer: int
    reactions: ClassReactions
    correlations: Correlations
    """Rows: head * feature, features fastest; columns: neurons."""
    curve: AblationCurve | None
    """None where the texts define no loss."""
    norms: Float[Tensor, "sample 4"]
    """Of each token: |attn_out|, |mlp_out|, |resid_pre|, cosine of attn_out and mlp_out."""
    post: Float[Tensor, "sample d_mlp"]
    out: Float[Tensor, "sample d_model"]


def layer_study(
    model: HookedTransformer, batch: ActivationBatch, layer: int, *, seed: int, n_shuffles: int, n_orders: int
) -> LayerStudy:
    """Class reactions, head correlations, ablation curve and norms of one block; `batch` holds `detail_hooks`."""
    given = loss_input(model, batch.texts)
    curve = None
    if given is not None:
        curve = ablation_curve(
            model, given, layer, activations=batch.real(hook_names.mlp_post(layer)), seed=seed, n_orders=n_orders
        )
    return LayerStudy(
        layer,
        *layer_relations(batch, layer, seed=seed, n_shuffles=n_shuffles),
        curve,
        _norms(batch, layer),
        batch.real(hook_names.mlp_post(layer)).cpu(),
        batch.real(hook_names.mlp_out(layer)).cpu(),
    )


def layer_relations(
    batch: ActivationBatch, layer: int, *, seed: int, n_shuffles: int
) -> tuple[ClassReactions, Correlations]:
    """Word classes and attention features that a block's neurons go with, first positions left out.

    `batch` holds the block's hook_post and pattern. Heads, whose null is pooled over far more pairs, take a quarter of
    the shuffles.
    """
    post = batch.real(hook_names.mlp_post(layer)).cpu()
    later = TokenRows.of(batch).places[:, 1] > 0
    classes = [name for text in batch.texts for name in text.classes]
    kept = [name for name, keep in zip(classes, later.tolist(), strict=True) if keep]
    patterns = batch.cache[hook_names.pattern(layer)]
    features, by_text = [], []
    for row, (text, values) in enumerate(zip(batch.texts, split_texts(post, batch.texts), strict=True)):
        features.append(head_features(patterns[row, :, : len(text), : len(text)]).flatten(1))
        by_text.append(values[1:].double())
    return (
        class_reactions(post[later], kept, seed=seed, n_shuffles=n_shuffles),
        correlate_within_texts(features, by_text, seed=seed, n_shuffles=max(1, n_shuffles // 4)),
    )


def detail_hooks(model: HookedTransformer) -> list[str]:
    """The hooks that `layer_study` reads, of every block."""
    names = (hook_names.resid_pre, hook_names.attn_out, hook_names.mlp_post, hook_names.mlp_out, hook_names.pattern)
    return [name(layer) for layer in range(model.cfg.n_layers) for name in names]


def split_texts(values: Tensor, texts: Sequence[TokenizedText]) -> tuple[Tensor, ...]:
    """Rows of real tokens, text by text."""
    return values.split([len(text) for text in texts])


def _norms(batch: ActivationBatch, layer: int) -> Float[Tensor, "sample 4"]:
    attn, mlp, resid = (
        batch.real(name(layer)).double().cpu()
        for name in (hook_names.attn_out, hook_names.mlp_out, hook_names.resid_pre)
    )
    cosine = torch.cosine_similarity(attn, mlp, dim=1)
    return torch.stack([attn.norm(dim=1), mlp.norm(dim=1), resid.norm(dim=1), cosine], dim=1)


def compare(
    model: HookedTransformer, texts: Sequence[TokenizedText], quantities: Sequence[Quantity], *, seed: int
) -> dict[str, tuple[Comparison, ...]]:
    """Every quantity's distribution in each text, against the first text."""
    batch = cache_hooks(model, texts, [quantity.hook for quantity in quantities])
    return {quantity.label: compare_texts(split_texts(quantity.of(batch), texts), seed=seed) for quantity in quantities}


def streaming_identities(study: StreamStudy) -> tuple[Identity, ...]:
    """One pass against all values at once, where they were kept; the worst over quantities, none for a longer stream.

    Moments agree to rounding in float64: 1e-9 of the standard deviation leaves room for 1e6 additions.
    """
    checks = [each.streaming_errors() for each in study.statistics.values()]
    kept = [errors for errors in checks if errors is not None]
    if not kept:
        return ()
    moments = "mean and standard deviation from merged batches = from all values at once (standard deviations)"
    sketch = "quartiles from the one-pass sketch = exact quartiles (relative to the neighbouring values; stated 1 %)"
    return (
        Identity("streamed moments", moments, max(errors[0] for errors in kept), 1e-9),
        Identity("streamed quartiles", sketch, max(errors[1] for errors in kept), RELATIVE_ERROR * (1 + 1e-6)),
    )
