"""Does a head copy what it attends to? Notions read from the OV circuit W_E W_V W_O W_U, and their null.

| notion | definition | copying | anti-copying |
|---|---|---|---|
| eigenvalue score | sum(lambda) / sum |lambda| of the circuit's eigenvalues (Elhage et al. 2021) | 1 | -1 |
| own token on top | share of tokens whose own logit is the largest, or among the five largest, of its row | 1 | 0 |
| own rank | mean over tokens of (rank - 1) / (vocab - 1) of the own logit in its row | 0 | 1 |
| on text | see copying_text | > 0 | < 0 |

The circuit's non-zero eigenvalues are those of the d_head x d_head matrix W_O (W_U W_E) W_V; W_U W_E is kept between
heads. A circuit whose eigenvalues are all 0 (nilpotent) has no eigenvalue score: nan.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Float64, Int
from torch import Tensor

from lens_utils.circuits.random_heads import random_factors
from lens_utils.circuits.token_circuits import TokenCircuit, ov_circuit, own_ranks
from lens_utils.circuits.weights import check_attention, token_vectors
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.progress import track

TOP = 5
NOTIONS = ("eigenvalue_score", "own_top1", "own_top5", "own_rank")


def unembedding_gram(model: HookedTransformer) -> Float[Tensor, "d_model d_model"]:
    """W_U W_E: how much each direction written raises the tokens whose embedding points in each direction."""
    return model.W_U.detach() @ token_vectors(model)


def ov_eigenvalues(
    w_v: Float[Tensor, "*head d_model d_head"],
    w_o: Float[Tensor, "*head d_head d_model"],
    gram: Float[Tensor, "d_model d_model"],
) -> Complex[Tensor, "*head d_head"]:
    """The d_head eigenvalues of W_E W_V W_O W_U that can differ from 0; rounding noise counts as exactly 0.

    Noise: below d_head eps times the Frobenius norm of W_O (W_U W_E) W_V, which bounds every eigenvalue.
    """
    small = w_o @ gram @ w_v
    noise = small.shape[-1] * torch.finfo(small.dtype).eps * small.double().flatten(-2).norm(dim=-1)
    values = torch.linalg.eigvals(small.double())
    return torch.where(values.abs() <= noise.unsqueeze(-1), torch.zeros_like(values), values)


def eigenvalue_score(values: Complex[Tensor, "*head d_head"]) -> Float64[Tensor, "*head"]:
    """sum(lambda) / sum |lambda|: 1 all positive, -1 all negative, nan where every eigenvalue is 0."""
    size = values.abs().sum(-1)
    return values.sum(-1).real / torch.where(size == 0, torch.nan, size)


def own_token_notions(circuit: TokenCircuit, own: Int[Tensor, " row"]) -> dict[str, float]:
    """Share of rows whose own entry is on top and among the top 5, and its mean rank from 0 (top) to 1 (bottom)."""
    found = own_ranks(circuit, own)
    last = max(1, circuit.shape[1] - 1)
    return {
        "own_top1": float(found.within(1).mean()),
        "own_top5": float(found.within(TOP).mean()),
        "own_rank": float((found.ranks.mean() - 1) / last),
    }


@dataclass(frozen=True)
class WeightCopying:
    """What the weights say about copying, head by head (layer by layer), and what they say of random heads."""

    eigenvalues: Complex[Tensor, "head d_head"]
    """Of W_E W_OV W_U, with the scale the experiment gives logits."""
    notions: dict[str, Float64[Tensor, " head"]]
    """Each of NOTIONS."""
    null: dict[str, Float64[Tensor, " random"]]
    """The same of random heads; none of the notions depends on a head's norm."""
    tokens: int
    """Tokens (rows) ranked; drawn at random where the vocabulary is larger."""


def weight_copying(
    model: HookedTransformer, *, scales: tuple[float, ...], seed: int, n_null: int = 200, max_rows: int = 4096
) -> WeightCopying:
    """Eigenvalues and own-token ranks of every head, beside `n_null` random heads.

    `scales` divide each layer's circuit (LN1's and the final LayerNorm's typical scale, multiplied): logits, then.
    Random heads are ranked on at most 512 of the rows each.
    """
    check_attention(model)
    generator = torch.Generator().manual_seed(seed)
    gram, vocab = unembedding_gram(model), model.cfg.d_vocab
    rows = torch.randperm(vocab, generator=generator)[:max_rows].sort().values.to(model.device)
    found: dict[str, list[float]] = {name: [] for name in NOTIONS}
    values = ov_eigenvalues(model.W_V.detach(), model.W_O.detach(), gram).flatten(0, 1).cpu()
    found["eigenvalue_score"] = eigenvalue_score(values).tolist()
    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    for layer, head in track(heads, "OV circuits"):
        circuit = ov_circuit(model, layer, head, scale=scales[layer])
        for name, value in own_token_notions(circuit.of_rows(rows), rows).items():
            found[name].append(value)
    size = torch.tensor(scales, dtype=torch.float64).repeat_interleave(model.cfg.n_heads).unsqueeze(1)
    return WeightCopying(
        values / size,
        {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()},
        _null(model, gram, rows, n_null, generator),
        len(rows),
    )


def _null(
    model: HookedTransformer, gram: Tensor, rows: Tensor, n_null: int, generator: torch.Generator
) -> dict[str, Float64[Tensor, " random"]]:
    tokens, w_u = token_vectors(model), model.W_U.detach()
    found: dict[str, list[float]] = {name: [] for name in NOTIONS}
    for _ in track(range(n_null), "random heads"):
        w_v, w_o = (
            each[0].to(gram) for each in random_factors(1, model.cfg.d_model, model.cfg.d_head, generator=generator)
        )
        found["eigenvalue_score"].append(float(eigenvalue_score(ov_eigenvalues(w_v, w_o, gram))))
        chosen = rows[torch.randperm(len(rows), generator=generator)[:512].to(rows.device)]
        circuit = TokenCircuit(tokens[chosen] @ w_v, w_o @ w_u)
        for name, value in own_token_notions(circuit, chosen).items():
            found[name].append(value)
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()}
