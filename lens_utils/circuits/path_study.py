"""Paths on texts: what each gives the next token, what its removal costs, and where attention scores come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lens_utils.circuits import path_expansion as paths
from lens_utils.circuits.score_terms import ScoreTerms, score_terms, scores_identity
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText


@dataclass(frozen=True)
class ScoreSources:
    """Where a head's scores come from, pooled over texts."""

    layer: int
    head: int
    sources: tuple[str, ...]
    shares: Float64[Tensor, "query_source key_source"]
    """Of the variance of scores over the keys of a row; sum to 1, nan for constant scores."""
    by_text: Float64[Tensor, "text query_source key_source"]


@dataclass(frozen=True)
class PathStudy:
    """Paths of a model on texts, all patterns and LayerNorm scales frozen."""

    terms: tuple[str, ...]
    """direct path, each head reading the embeddings, all longer paths by length, biases."""
    given: Float64[Tensor, "text term"]
    """What each gives the next token over the mean logit, in nats; mean over positions."""
    raises: Float64[Tensor, " term"]
    """Share of positions where that is above 0."""
    cost: Float64[Tensor, "text term"]
    """Mean loss without the term minus with all, in nats."""
    losses: Float64[Tensor, "text order"]
    """Mean loss with paths of at most 0, 1, ... heads."""
    identities: tuple[Identity, ...]


def study_paths(model: HookedTransformer, texts: Sequence[TokenizedText]) -> PathStudy:
    """Everything above, on texts of at least two tokens; `ValueError` where paths do not sum to the logits."""
    given, raises, costs, losses, identities = [], [], [], [], []
    names: tuple[str, ...] = ()
    for text in track(_usable(texts), "paths"):
        run = paths.freeze(model, text)
        orders = paths.path_orders(run)
        names, vectors = _terms(run, orders)
        answers = paths.answer_logits(run, vectors)
        given.append(answers.mean(1))
        raises.append((answers > 0).double())
        losses.append(paths.order_losses(run, orders))
        costs.append(paths.removal_costs(run, vectors))
        identities.append(paths.logits_identity(run, orders))
    return PathStudy(
        names,
        torch.stack(given).double().cpu(),
        torch.cat(raises, dim=1).mean(1).cpu(),
        torch.stack(costs).double().cpu(),
        torch.stack(losses).double().cpu(),
        (max(identities, key=_error),),
    )


def study_sources(
    model: HookedTransformer, texts: Sequence[TokenizedText]
) -> tuple[tuple[ScoreSources, ...], tuple[Identity, ...]]:
    """Where the scores of every head come from, and the check that the terms sum to them."""
    runs = [paths.freeze(model, text) for text in track(_usable(texts), "score sources")]
    scores = [[score_terms(run, layer) for layer in range(model.cfg.n_layers)] for run in runs]
    checks = [scores_identity(found) for each in scores for found in each]
    return _pooled(scores), (max(checks, key=_error),)


def _usable(texts: Sequence[TokenizedText]) -> list[TokenizedText]:
    usable = [text for text in texts if len(text) > 1]
    if not usable:
        raise ValueError("texts: paths to the next token need a text of at least two tokens")
    return usable


def _error(identity: Identity) -> float:
    return identity.error if identity.error == identity.error else float("inf")


def _terms(run: paths.FrozenRun, orders: paths.Orders) -> tuple[tuple[str, ...], Float[Tensor, "term pos d_model"]]:
    cfg = run.model.cfg
    names, vectors = ["direct path"], [orders.by_order[:1]]
    for layer in range(cfg.n_layers):
        names += [f"L{layer}H{head}" for head in range(cfg.n_heads)]
        vectors.append(paths.head_terms(run, layer))
    names += [f"paths through {order} heads" for order in range(2, cfg.n_layers + 1)]
    vectors += [orders.by_order[2:], orders.biases.unsqueeze(0)]
    return (*names, "biases"), torch.cat(vectors)


def _pooled(scores: Sequence[Sequence[tuple[ScoreTerms, ...]]]) -> tuple[ScoreSources, ...]:
    """Shares over all texts: sums of covariances over the sum of variances."""
    found = []
    for layer in range(len(scores[0])):
        for head in range(len(scores[0][layer])):
            each = [text[layer][head] for text in scores]
            total = sum(terms.variance for terms in each)
            covariance = torch.stack([terms.covariance for terms in each]).sum(0)
            by_text = torch.stack([terms.shares for terms in each])
            found.append(ScoreSources(layer, head, each[0].sources, covariance / (total or torch.nan), by_text))
    return tuple(found)
