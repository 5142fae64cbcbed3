"""The bigram table of a model's direct path, and the one counted in a corpus."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from lens_utils.circuits.token_circuits import TokenCircuit
from lens_utils.statistics import average_ranks

_PAIRS_AT_ONCE = 200_000


@dataclass(frozen=True)
class BigramCounts:
    """How often each token is followed by each, where that is more than never."""

    previous: Int[Tensor, " pair"]
    following: Int[Tensor, " pair"]
    counts: Float64[Tensor, " pair"]
    vocab: int

    @classmethod
    def of(cls, texts: Iterable[Int[Tensor, " _"]], vocab: int) -> "BigramCounts":
        """Count the pairs of neighbours in every text; held sparse, so memory grows with the distinct pairs only."""
        codes, counts = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        waiting: list[Tensor] = []
        size = 0
        for text in texts:
            waiting.append(text[:-1].cpu() * vocab + text[1:].cpu())
            size += len(text)
            if size > 1_000_000:
                codes, counts = _merged(codes, counts, waiting)
                waiting, size = [], 0
        codes, counts = _merged(codes, counts, waiting)
        if not len(codes):
            raise ValueError("corpus: no text has two tokens, so there is no bigram to count")
        return cls(codes // vocab, codes % vocab, counts.double(), vocab)

    @property
    def frequency(self) -> Float64[Tensor, " vocab"]:
        """How often each token is followed by anything."""
        return torch.zeros(self.vocab, dtype=torch.float64).index_add_(0, self.previous, self.counts)

    @property
    def follows(self) -> Float64[Tensor, " vocab"]:
        """How often each token follows anything."""
        return torch.zeros(self.vocab, dtype=torch.float64).index_add_(0, self.following, self.counts)

    @property
    def log_probabilities(self) -> Float64[Tensor, " pair"]:
        """log of the share of each pair among those with the same first token."""
        return self.counts.log() - self.frequency[self.previous].log()


def _merged(codes: Tensor, counts: Tensor, waiting: list[Tensor]) -> tuple[Tensor, Tensor]:
    new, times = torch.cat([*waiting, codes[:0]]).unique(return_counts=True)
    merged, place = torch.cat([codes, new]).unique(return_inverse=True)
    return merged, torch.zeros_like(merged).index_add_(0, place, torch.cat([counts, times]))


@dataclass(frozen=True)
class BigramFit:
    """How far predicted next tokens are from counted ones."""

    kl: Float64[Tensor, " vocab"]
    """KL(counted || predicted) of each token in nats; nan where the corpus does not show the token."""
    noise: Float64[Tensor, " vocab"]
    """(distinct followers - 1) / (2 count): KL that counting alone would give if the prediction were exact, in nats
    (first order, so only where the token is frequent)."""
    pearson: float
    """Correlation of predicted and counted log-probabilities over pairs counted at least `least` times; nan if < 3."""
    spearman: float
    pairs: int
    least: int


def compare_bigrams(predicted: TokenCircuit, counted: BigramCounts, *, least: int = 5) -> BigramFit:
    """KL of each token and correlation over pairs; `predicted` holds log-probabilities (`log_probabilities`)."""
    return fit_of(entries_at(predicted, counted), counted, least=least)


def unigram_fit(counted: BigramCounts, *, least: int = 5) -> BigramFit:
    """The same for a prediction that knows how often each token follows, but not what it follows: the null."""
    follows = counted.follows
    return fit_of((follows.log() - follows.sum().log())[counted.following], counted, least=least)


def entries_at(circuit: TokenCircuit, counted: BigramCounts) -> Float64[Tensor, " pair"]:
    """The circuit's entry for each counted pair."""
    device = circuit.left.device
    pairs = zip(counted.previous.split(_PAIRS_AT_ONCE), counted.following.split(_PAIRS_AT_ONCE), strict=True)
    return torch.cat([circuit.at(one.to(device), other.to(device)).double().cpu() for one, other in pairs])


def fit_of(predicted: Float64[Tensor, " pair"], counted: BigramCounts, *, least: int) -> BigramFit:
    """The fit of log-probabilities predicted for the counted pairs."""
    frequency, measured = counted.frequency, counted.log_probabilities
    seen = torch.where(frequency > 0, frequency, torch.nan)
    terms = counted.counts * (measured - predicted)
    kl = torch.zeros(counted.vocab, dtype=torch.float64).index_add_(0, counted.previous, terms) / seen
    followers = torch.zeros(counted.vocab, dtype=torch.float64)
    followers.index_add_(0, counted.previous, torch.ones_like(counted.counts))
    often = counted.counts >= least
    pairs = torch.stack([predicted[often], measured[often]], dim=1)
    enough = len(pairs) >= 3
    return BigramFit(
        kl,
        (followers - 1) / (2 * seen),
        _correlation(pairs) if enough else torch.nan,
        _correlation(average_ranks(pairs)) if enough else torch.nan,
        len(pairs),
        least,
    )


def _correlation(pairs: Float64[Tensor, "pair 2"]) -> float:
    return float(torch.corrcoef(pairs.T)[0, 1])


def weighted_kl(fit: BigramFit, counted: BigramCounts) -> float:
    """Mean over tokens of KL, weighted by how often they occur, in nats."""
    frequency = counted.frequency
    seen = frequency > 0
    return float((fit.kl[seen] * frequency[seen]).sum() / frequency[seen].sum())
