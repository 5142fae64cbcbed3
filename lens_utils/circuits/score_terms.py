"""Where attention scores come from: a head's scores as a sum over what its queries and its keys read.

The residual stream before a layer is a sum of sources: token embedding, position embedding, each earlier head, biases.
A score is bilinear in it, so score = sum over (query-side source, key-side source) of their terms, exactly. The softmax
ignores what is added to a whole row, so each term is weighed by how it varies over the keys of a row:

share(s, t) = sum over queries of cov_keys(term_st, score) / sum over queries of var_keys(score); shares sum to 1.
"""

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from lens_utils.circuits.path_expansion import TOLERANCE, FrozenRun, through_head
from lens_utils.circuits.weights import centred
from lens_utils.identities import Identity


@dataclass(frozen=True)
class ScoreTerms:
    """The score of one head by source, on one text."""

    sources: tuple[str, ...]
    covariance: Float64[Tensor, "query_source key_source"]
    """Sum over queries of the covariance of a term with the score over visible keys; sums to `variance`."""
    variance: float
    """Sum over queries of the variance of the score over visible keys."""
    error: float
    """Largest departure of the sum of terms from the model's score."""
    largest: float
    """Largest score in magnitude."""

    @property
    def shares(self) -> Float64[Tensor, "query_source key_source"]:
        """Share of the score's variance over keys; nan for a head whose scores are constant."""
        return self.covariance / (self.variance or torch.nan)


@torch.no_grad()
def residual_sources(run: FrozenRun, layer: int) -> tuple[tuple[str, ...], Float[Tensor, "source pos d_model"]]:
    """Names and vectors of what the residual stream before `layer` is the sum of.

    A head counts with all it writes, whatever it read; b_V belongs to `bias`.
    """
    names, vectors = ["token", "position"], [run.embedded, run.positions]
    biases, stream = torch.zeros_like(run.start), run.start
    for earlier in range(layer):
        attn = run.model.blocks[earlier].attn
        written = [through_head(run, earlier, head, stream) for head in range(run.model.cfg.n_heads)]
        constant = (attn.b_O + einsum(attn.b_V, attn.W_O, "h d, h d m -> m")).expand_as(run.start)
        names += [f"L{earlier}H{head}" for head in range(len(written))]
        vectors += written
        biases = biases + constant
        stream = stream + torch.stack(written).sum(0) + constant
    return (*names, "bias"), torch.stack([*vectors, biases])


@torch.no_grad()
def score_terms(run: FrozenRun, layer: int) -> tuple[ScoreTerms, ...]:
    """The decomposition for every head of a layer; b_Q and b_K belong to the source `bias`."""
    names, vectors = residual_sources(run, layer)
    attn = run.model.blocks[layer].attn
    read = centred(run.model, vectors) / run.scales[layer]
    read[names.index("position")] += run.beside
    found = []
    for head in range(run.model.cfg.n_heads):
        queries = read @ attn.W_Q[head] / attn.score_divisor
        keys = read @ attn.W_K[head]
        queries[-1] += attn.b_Q[head] / attn.score_divisor
        keys[-1] += attn.b_K[head]
        found.append(_of_head(names, queries.double(), keys.double(), run.scores[layer][head]))
    return tuple(found)


def _of_head(names: tuple[str, ...], queries: Tensor, keys: Tensor, score: Tensor) -> ScoreTerms:
    visible = score > -torch.inf
    exact = torch.where(visible, score, 0.0).double()
    total = einsum(queries.sum(0), keys.sum(0), "q d, k d -> q k")
    deviation = _within_rows(total, visible)
    # cov(q_s k_t, score) is linear in k_t: the key-side sum over keys is done once for each key source
    pulled = einsum(deviation, keys, "q k, t k d -> t q d")
    covariance = einsum(queries, pulled, "s q d, t q d -> s t")
    return ScoreTerms(
        names,
        covariance.cpu(),
        float((deviation * torch.where(visible, total, 0.0)).sum()),
        float((torch.where(visible, total, 0.0) - exact).abs().max()),
        float(exact.abs().max()),
    )


def _within_rows(values: Tensor, visible: Bool[Tensor, "query key"]) -> Float64[Tensor, "query key"]:
    """(value - mean over the row's visible keys) / number of them; 0 at masked keys."""
    count = visible.sum(1, keepdim=True)
    shown = torch.where(visible, values, 0.0)
    return torch.where(visible, shown - shown.sum(1, keepdim=True) / count, 0.0) / count


def scores_identity(found: tuple[ScoreTerms, ...]) -> Identity:
    """Sum over query-side and key-side sources = the model's attention scores, the worst over heads.

    Relative to the largest score where that exceeds 1: planted heads have scores of hundreds.
    """
    error = max(each.error / max(1.0, each.largest) for each in found)
    statement = "sum over query-side x key-side sources = attention scores (relative to the largest where above 1)"
    return Identity("terms sum to the scores", statement, error, TOLERANCE)
