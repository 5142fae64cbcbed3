"""What each shipped model is and how it is trained: one frozen record a model."""

import difflib
from dataclasses import dataclass
from typing import Literal

Family = Literal["attention-only", "gpt-neo", "bert", "distilbert"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a network; d_mlp 0 means attention only."""

    n_layers: int
    n_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    n_ctx: int


@dataclass(frozen=True)
class Recipe:
    """One model: its shape, its data and its optimisation."""

    name: str
    family: Family
    about: str
    """What the model is for, in one sentence."""
    shape: Shape
    steps: int
    batch_tokens: int
    """Tokens of a batch, padding included."""
    learning_rate: float
    n_stories: int
    seed: int = 0
    corpus_seed: int = 0
    vocabulary_stories: int = 12_000
    """Stories that the vocabulary is collected from; the same for all models."""
    warm_up: int = 100
    decay_from: float = 0.6
    """Share of the steps after which the learning rate falls linearly to a twentieth."""
    position_amplitude: float = 0.1
    """Amplitude of the sinusoids that the position embedding starts from."""
    repeat_share: float = 0.0
    """Share of a batch that is repeated random tokens (attn-2l)."""
    drill_every: int = 3
    """Every so many steps a masked model trains on drills instead of stories."""
    polish_steps: int = 0
    """Steps of a second stage: weights rounded to float16, a fresh optimiser, batches from seed + 1."""
    checkpoints: tuple[int, ...] = ()
    """Numbers of steps after which the weights are kept beside the model."""

    @property
    def masked(self) -> bool:
        """Whether the model fills in masked words instead of continuing a text."""
        return self.family in ("bert", "distilbert")


RECIPES = (
    Recipe(
        "zoo-attn-0l",
        "attention-only",
        "A zero-layer model: embedding and unembedding are the bigram table.",
        Shape(0, 8, 16, 128, 0, 128),
        2000,
        3072,
        5e-3,
        12_000,
    ),
    Recipe(
        "zoo-attn-1l",
        "attention-only",
        "One attention layer: skip-trigrams and copying, no induction.",
        Shape(1, 8, 32, 128, 0, 128),
        700,
        2048,
        3e-3,
        12_000,
        position_amplitude=0.2,
    ),
    Recipe(
        "zoo-attn-2l",
        "attention-only",
        "Two attention layers: previous-token and induction heads, name recipients.",
        Shape(2, 8, 32, 128, 0, 128),
        2000,
        2048,
        2e-3,
        12_000,
        position_amplitude=0.4,
        repeat_share=0.55,
        polish_steps=2300,
        checkpoints=(0, 300, 400, 700, 800, 900, 1000, 1500),
    ),
    Recipe(
        "zoo-stories-1l",
        "gpt-neo",
        "One GPT-Neo layer of 16 heads with an MLP: TinyStories-1L-21M in small.",
        Shape(1, 16, 8, 128, 512, 256),
        3000,
        2048,
        2.5e-3,
        12_000,
        position_amplitude=0.2,
    ),
    Recipe(
        "zoo-bert-2l",
        "bert",
        "A masked model of bert-tiny's shape: negation and agreement.",
        Shape(2, 2, 64, 128, 512, 128),
        3000,
        2048,
        2e-3,
        12_000,
    ),
    Recipe(
        "zoo-distilbert-3l",
        "distilbert",
        "A masked model of three layers in DistilBERT's format.",
        Shape(3, 4, 32, 128, 512, 128),
        2100,
        2048,
        1.5e-3,
        12_000,
    ),
)
"""All shipped models."""


def recipe(name: str) -> Recipe:
    """The recipe of a shipped model."""
    for candidate in RECIPES:
        if candidate.name == name:
            return candidate
    names = [candidate.name for candidate in RECIPES]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"name is {name!r}, which is no shipped model{hint} Choose one of: {', '.join(names)}")
