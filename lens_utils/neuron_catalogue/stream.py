"""Every neuron over a stream of texts in one pass and bounded memory; then the texts around its extremes again.

Extremes are those of the pre-activation (hook_pre). The highest are the highest activations too; the lowest are the
tokens that speak most against the neuron, where the activation itself only lies at its function's floor.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import stream_activations
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.mlp.study import SAMPLE_TOKENS, Reservoir, within_tokens
from lens_utils.neuron_catalogue.names import Neuron
from lens_utils.neurons import ExtremeToken, TokenExtremes
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.quantities import TokenRows
from lens_utils.streaming import Moments

ENDS = ("highest", "lowest")
BEFORE, AFTER = 16, 6
"""Tokens shown around an extreme one."""
FRESH_TEXTS, FRESH_TOKENS = 64, 8192
"""Texts drawn beside the sample, at most, and their tokens."""


class NeuronStream:
    """Moments and share of positive values of hook_post, and extreme tokens of hook_pre, of one block's neurons."""

    def __init__(self, width: int, k: int) -> None:
        self.moments = Moments.empty(width)
        self.active: Int[Tensor, " neuron"] = torch.zeros(width, dtype=torch.long)
        self.extremes = TokenExtremes(k)

    def add(
        self,
        post: Float[Tensor, "sample neuron"],
        pre: Float[Tensor, "sample neuron"],
        places: Int[Tensor, "sample 2"],
        texts: Sequence[TokenizedText],
    ) -> None:
        """Take in a batch of hook_post and hook_pre; `places` are (text, pos)."""
        self.moments = self.moments.merge(Moments.of(post.T))
        self.active = self.active + (post > 0).sum(0)
        self.extremes.add(pre, torch.nn.functional.pad(places, (0, 1)), texts)

    @property
    def active_share(self) -> Float64[Tensor, " neuron"]:
        """Share of tokens at which the neuron is above 0."""
        return self.active.double() / self.moments.count


@dataclass(frozen=True)
class Streamed:
    """What one pass over the texts found."""

    layers: tuple[NeuronStream, ...]
    sample: tuple[TokenizedText, ...]
    """Up to so many texts as asked for, drawn uniformly; all where there are no more."""
    fresh: tuple[TokenizedText, ...]
    """Other texts, drawn alike: what is found on the sample is confirmed on them. None where there are no more."""
    n_texts: int
    n_tokens: int


def stream_neurons(
    model: HookedTransformer, texts: Iterable[TokenizedText], *, k: int, n_sample: int, seed: int
) -> Streamed:
    """Read the texts once; memory does not grow with their number. Raises `ValueError` where there is no text."""
    assert model.cfg.d_mlp is not None
    layers = tuple(NeuronStream(model.cfg.d_mlp, k) for _ in range(model.cfg.n_layers))
    reservoir = Reservoir(n_sample + FRESH_TEXTS, seed)
    hooks = [(hook_names.mlp_post(layer), hook_names.mlp_pre(layer)) for layer in range(model.cfg.n_layers)]
    names = [name for pair in hooks for name in pair]
    for batch in track(stream_activations(model, reservoir.watch(texts), names), "batches"):
        places = TokenRows.of(batch).places
        for (post, pre), stream in zip(hooks, layers, strict=True):
            stream.add(batch.real(post).cpu(), batch.real(pre).cpu(), places, batch.texts)
    if not reservoir.n_texts:
        raise ValueError("texts: there is none; give a corpus that holds some")
    # The order they are held in is that of the stream as long as there are few
    drawn = random.Random(seed).sample(reservoir.texts, len(reservoir.texts))
    sample = within_tokens(drawn[:n_sample], SAMPLE_TOKENS)
    fresh = within_tokens(drawn[n_sample:], FRESH_TOKENS)
    return Streamed(layers, sample, fresh, reservoir.n_texts, reservoir.n_tokens)


@dataclass(frozen=True)
class Context:
    """An extreme token of a neuron and the tokens around it, with the neuron's pre-activation at each."""

    neuron: Neuron
    end: str
    """highest or lowest."""
    rank: int
    """1 is the most extreme."""
    extreme: ExtremeToken
    strings: tuple[str, ...]
    values: Float[Tensor, " shown"]
    again: float
    """The extreme pre-activation when its text is run again."""
    activation: float
    """What the activation function makes of it (hook_post)."""


def contexts(
    model: HookedTransformer, streams: Sequence[NeuronStream], neurons: Sequence[Neuron]
) -> tuple[Context, ...]:
    """The extremes of the neurons, highest then lowest, in their texts, which are run once more."""
    wanted = [
        (neuron, end, rank, token)
        for neuron in neurons
        for end in ENDS
        for rank, token in enumerate(getattr(streams[neuron[0]].extremes, end)(neuron[1]), start=1)
    ]
    texts: dict[int, TokenizedText] = {}
    by_text: dict[int, list[int]] = {}
    for index, (neuron, _, _, token) in enumerate(wanted):
        texts[token.text] = streams[neuron[0]].extremes.texts[token.text]
        by_text.setdefault(token.text, []).append(index)
    read = sorted({layer for layer, _ in neurons})
    hooks = {layer: (hook_names.mlp_pre(layer), hook_names.mlp_post(layer)) for layer in read}
    names = [name for pair in hooks.values() for name in pair]
    found: dict[int, Context] = {}
    for batch in stream_activations(model, texts.values(), names):
        for row, text in enumerate(batch.texts):
            values = {layer: torch.stack([batch.cache[name][row] for name in pair]) for layer, pair in hooks.items()}
            found |= {index: _context(*wanted[index], text, values) for index in by_text[text.index]}
    return tuple(found[index] for index in range(len(wanted)))


def _context(
    neuron: Neuron, end: str, rank: int, token: ExtremeToken, text: TokenizedText, values: Mapping[int, Tensor]
) -> Context:
    start, stop = max(0, token.pos - BEFORE), min(len(text), token.pos + 1 + AFTER)
    pre, post = values[neuron[0]][:, :, neuron[1]].cpu()
    again, activation = float(pre[token.pos]), float(post[token.pos])
    return Context(neuron, end, rank, token, text.strings[start:stop], pre[start:stop].clone(), again, activation)


def stream_identities(streamed: Streamed, shown: Sequence[Context]) -> tuple[Identity, ...]:
    """Nothing is lost in the stream, and what it kept is found again in the texts."""
    count = max(int((layer.moments.count - streamed.n_tokens).abs().max()) for layer in streamed.layers)
    again = max((abs(each.again - each.extreme.value) for each in shown), default=0.0)
    return (
        Identity("streamed tokens", "values counted for each neuron = tokens read", float(count), 0.0),
        Identity("extremes found again", "extreme pre-activation kept = its text run again", again, 1e-4),
    )
