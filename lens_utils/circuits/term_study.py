"""Term importance of one model: orders, single heads, pairs of heads, beside the same model with shuffled weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils.circuits import path_expansion as paths
from lens_utils.circuits import term_effects as effects
from lens_utils.circuits.term_effects import Term
from lens_utils.circuits.texts import Texts
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.null_models import shuffled_weights
from lens_utils.progress import track
from lens_utils.prompts import TokenizedText
from lens_utils.statistics import benjamini_hochberg, sign_flip_p_value

LEAST_Z = 4.0
"""A term of use lies at least so many standard deviations above the terms of models with shuffled weights."""


@dataclass(frozen=True)
class Effects:
    """Effects of terms of one order on each text, in nats a token; above 0 the term is of use."""

    terms: tuple[Term, ...]
    added: Float64[Tensor, "text term"]
    removed: Float64[Tensor, "text term"]
    permuted: Float64[Tensor, "text term"]


@dataclass(frozen=True)
class Judged:
    """Effects and what speaks for them."""

    effects: Effects
    whole: Float64[Tensor, "text term"] | None
    """For single heads: rise of the loss without all that passes through the head."""
    q: Float64[Tensor, " term"]
    """Added against the same vectors at permuted positions: sign flips over texts, Benjamini-Hochberg over terms."""
    z: Float64[Tensor, " term"]
    """Standard deviations of `added` above the terms of this order in models with shuffled weights."""
    useful: Bool[Tensor, " term"]
    """added > 0, q <= 0.05 with the term better than its permuted self, z >= LEAST_Z."""


@dataclass(frozen=True)
class TermStudy:
    """Everything the tables and figures show."""

    losses: Float64[Tensor, "text order"]
    """Loss with biases alone, then with all terms of at most 0, 1, ... heads."""
    null_losses: Float64[Tensor, "model order"]
    """The same in models with shuffled weights, mean over texts."""
    heads: Judged
    pairs: Judged
    all_pairs: int
    """How many pairs there are; `pairs` holds the ones measured."""
    n_layers: int
    n_heads: int
    texts: Texts
    identities: tuple[Identity, ...]
    seed: int


@dataclass(frozen=True)
class _Measured:
    losses: Float64[Tensor, "text order"]
    heads: Effects
    pairs: Effects
    whole: Float64[Tensor, "text head"]
    identities: tuple[Identity, ...]


def study_terms(model: HookedTransformer, texts: Texts, *, pairs: int, null_models: int, seed: int) -> TermStudy:
    """Every head, and at most `pairs` pairs of heads (those of largest first-order effect), on all texts.

    Raises `ValueError` with the reason where paths do not sum to the logits (MLPs, post-norm, unfolded LayerNorm).
    """
    paths.check_paths(model)
    usable = effects.usable_texts(texts.texts)
    found = _measured(model, usable, pairs, seed)
    null = [_measured(shuffled_weights(model, seed=seed + 1 + n), usable, pairs, seed) for n in range(null_models)]
    return TermStudy(
        found.losses,
        torch.stack([each.losses.mean(0) for each in null]),
        _judged(found.heads, [each.heads for each in null], found.whole, seed),
        _judged(found.pairs, [each.pairs for each in null], None, seed),
        len(effects.second_order(model)),
        model.cfg.n_layers,
        model.cfg.n_heads,
        texts,
        found.identities,
        seed,
    )


@torch.no_grad()
def _measured(model: HookedTransformer, texts: Sequence[TokenizedText], pairs: int, seed: int) -> _Measured:
    runs = [paths.freeze(model, text) for text in track(texts, "frozen runs")]
    heads, every = effects.first_order(model), effects.second_order(model)
    chosen = every
    if len(every) > pairs:
        estimates = [effects.estimated_removals(run, effects.term_vectors(run, every)) for run in runs]
        best = torch.stack(estimates).mean(0).abs().argsort(descending=True, stable=True)[:pairs]
        chosen = tuple(every[index] for index in sorted(best.tolist()))
    generator = torch.Generator().manual_seed(seed)
    losses, whole, identities = [], [], []
    measured: tuple[list[effects.TextEffects], list[effects.TextEffects]] = ([], [])
    for run in track(runs, "terms"):
        orders = paths.path_orders(run)
        losses.append(torch.cat([_bias_loss(run, orders), paths.order_losses(run, orders).double().cpu()]))
        whole.append(paths.removal_costs(run, effects.whole_heads(run)).double().cpu())
        identities.append((paths.logits_identity(run, orders), *effects.order_identities(run, orders)))
        for order, terms in enumerate((heads, chosen)):
            vectors = effects.term_vectors(run, terms)
            measured[order].append(effects.term_effects(run, vectors, orders.up_to(order), generator=generator))
    worst = tuple(max(each, key=lambda one: one.error) for each in zip(*identities, strict=True))
    of_heads, of_pairs = _stacked(heads, measured[0]), _stacked(chosen, measured[1])
    return _Measured(torch.stack(losses), of_heads, of_pairs, torch.stack(whole), worst)


def _stacked(terms: tuple[Term, ...], found: Sequence[effects.TextEffects]) -> Effects:
    names = ("added", "removed", "permuted")
    return Effects(terms, *(torch.stack([getattr(each, name) for each in found]) for name in names))


def _bias_loss(run: paths.FrozenRun, orders: paths.Orders) -> Float64[Tensor, "1"]:
    logits = paths.through_unembedding(run, orders.biases) + run.model.b_U
    targets = run.text.tokens[1:].to(logits.device)
    return torch.nn.functional.cross_entropy(logits[:-1], targets).double().cpu().unsqueeze(0)


def _judged(found: Effects, null: Sequence[Effects], whole: Float64[Tensor, "text term"] | None, seed: int) -> Judged:
    added, ahead = found.added.mean(0), found.added - found.permuted
    chance = torch.cat([each.added.mean(0) for each in null])
    sd = float(chance.std()) if len(chance) > 1 else 0.0
    z = (added - chance.mean()) / sd if sd > 0 else torch.zeros_like(added)
    p = [sign_flip_p_value(ahead[:, index], seed=seed, n_shuffles=9999) for index in range(len(added))]
    q = benjamini_hochberg(torch.tensor(p, dtype=torch.float64))
    useful = (added > 0) & (ahead.mean(0) > 0) & (q <= 0.05) & (z >= LEAST_Z)
    return Judged(found, whole, q, z, useful)
