"""What each neuron reads from tokens and writes to tokens by its weights, beside random directions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from lens_utils.ablation import LossInput
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.neuron_catalogue.paths import LogitPath, residual_directions, token_inputs
from lens_utils.statistics import pooled_p_values
from lens_utils.streaming import Moments

CELLS_AT_ONCE = 8_000_000
"""Directions times tokens held together: 64 MB of float64."""

Readout = Callable[[Float[Tensor, "row d_model"]], Float[Tensor, "row vocab"]]


@dataclass(frozen=True)
class TokenEffects:
    """How directions are spread over the tokens of the vocabulary; nan where a direction has no effect."""

    size: Float64[Tensor, " direction"]
    """Standard deviation over tokens, for a direction of length 1."""
    kurtosis: Float64[Tensor, " direction"]
    """Excess kurtosis over tokens: 0 for a normal spread, large where few tokens stand out."""
    top_values: Float[Tensor, "direction k"]
    top_tokens: Int[Tensor, "direction k"]
    """Tokens of largest value, largest first."""
    low_values: Float[Tensor, "direction k"]
    low_tokens: Int[Tensor, "direction k"]
    """Tokens of smallest value, smallest first."""


def token_effects(directions: Float[Tensor, "direction d_model"], readout: Readout, *, k: int) -> TokenEffects:
    """Read the directions out over tokens, some at a time; k is at most the vocabulary."""
    vocab = readout(directions[:1]).shape[1]
    parts = []
    for some in directions.split(max(1, CELLS_AT_ONCE // vocab)):
        values = readout(some).cpu()
        moments = Moments.of(values)
        length = some.double().norm(dim=1).cpu()
        top, low = values.topk(min(k, vocab), dim=1), (-values).topk(min(k, vocab), dim=1)
        # A spread of rounding errors is none
        flat = moments.sd <= 1e-12 * length
        size = torch.where(flat, torch.nan, moments.sd / length)
        kurtosis = torch.where(flat, torch.nan, moments.excess_kurtosis)
        parts.append((size, kurtosis, top.values, top.indices, -low.values, low.indices))
    return TokenEffects(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Tested:
    """A score of each neuron and its p against a pooled null; nan where the score is undefined."""

    value: Float64[Tensor, " neuron"]
    p: Float64[Tensor, " neuron"]
    null_mean: float
    null_high: float
    """97.5 % quantile of the null."""


def tested(value: Tensor, null: Tensor, *, two_sided: bool) -> Tested:
    """p of each score against all values of the null that are defined."""
    null = null[~null.isnan()].double()
    p = pooled_p_values(value.nan_to_num(), [null], two_sided=two_sided).double()
    high = float(null.quantile(0.975)) if null.numel() else float("nan")
    mean = float(null.mean()) if null.numel() else float("nan")
    return Tested(value.double(), torch.where(value.isnan(), torch.nan, p), mean, high)


@dataclass(frozen=True)
class WeightReading:
    """The neurons of one block by their weights alone."""

    outputs: TokenEffects
    """Logits per unit of activation along the direct path."""
    inputs: TokenEffects
    """Pre-activation that each token's embedding gives."""
    output_size: Tested
    output_kurtosis: Tested
    input_kurtosis: Tested
    """One-sided, against random directions read out in the same way."""
    cosine: Tested
    """Of W_in and W_out; two-sided, against W_in and W_out of different neurons of the block."""
    cosine_null: Float64[Tensor, " pair"]
    """Cosines of pairs of different neurons, at most `SHOWN_PAIRS`, spread evenly over all."""


SHOWN_PAIRS = 200_000


def read_weights(
    model: HookedTransformer, layer: int, parts: Sequence[LossInput], *, k: int, n_random: int, seed: int
) -> WeightReading:
    """Direct effect on the logits, what tokens do to the pre-activation, and cosine of W_in and W_out.

    `parts` set the LayerNorm scales and gates. Random directions are normal vectors of length 1, so that their norm is
    the neuron's own once sizes are per unit of length.
    """
    path, tokens = LogitPath.of(model, layer, parts), token_inputs(model, layer, parts)
    mlp = model.blocks[layer].mlp
    assert mlp is not None

    def inputs(directions: Tensor) -> Tensor:
        values = directions @ tokens.T
        return values - values.mean(-1, keepdim=True)

    reading, writing = mlp.W_in.detach().T, mlp.W_out.detach()
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(n_random, model.cfg.d_model, generator=generator).to(writing)
    random = random / random.norm(dim=1, keepdim=True)
    wrote, read = token_effects(writing, path.mean_logits, k=k), token_effects(reading, inputs, k=k)
    null_wrote = token_effects(random, path.mean_logits, k=1)
    null_read = token_effects(random, inputs, k=1)
    cosine, pairs = _cosines(*residual_directions(model, layer))
    return WeightReading(
        wrote,
        read,
        tested(wrote.size, null_wrote.size, two_sided=False),
        tested(wrote.kurtosis, null_wrote.kurtosis, two_sided=False),
        tested(read.kurtosis, null_read.kurtosis, two_sided=False),
        cosine,
        pairs,
    )


def _cosines(reading: Tensor, writing: Tensor) -> tuple[Tested, Float64[Tensor, " pair"]]:
    """Of each neuron's two directions, beside those of different neurons."""
    one, other = (_unit(each.double().cpu()) for each in (reading, writing))
    own = (one * other).sum(1)
    n = len(own)
    # Every neuron with the next ones, so many rounds as the bound allows
    rounds = range(1, min(n, 1 + max(1, SHOWN_PAIRS // n)))
    pairs = torch.cat([(one * other.roll(step, dims=0)).sum(1) for step in rounds]) if n > 1 else own[:0]
    return tested(own, pairs, two_sided=True), pairs[~pairs.isnan()]


def _unit(rows: Float64[Tensor, "row d_model"]) -> Float64[Tensor, "row d_model"]:
    norm = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norm == 0, torch.nan, norm)
