"""Direct logit attribution over many prompts: means, the null of shuffled answers, and how exact the sums are."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils.attribution.aims import Aim, NullAims, aim_of, check_count, directions, null_aims
from lens_utils.attribution.frozen import FrozenRead, freeze
from lens_utils.attribution.lens import Lens
from lens_utils.attribution.measured import Source, identities, measure
from lens_utils.attribution.questions import Question, Target, check_target
from lens_utils.attribution.readout import read_vectors
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.progress import track
from lens_utils.statistics import Interval, benjamini_hochberg, bootstrap_interval, p_value

FLOAT32_ROUNDING = 1e-6
"""Of a contribution: what is closer to its null than this is the same number."""
TOTAL = "all together"


@dataclass(frozen=True)
class Contributions:
    """What parts add to the target, in nats, and the same for tokens that other prompts ask for."""

    names: tuple[str, ...]
    values: Float64[Tensor, "prompt part"]
    null: Float64[Tensor, "shuffle part"]
    """Mean over prompts in each shuffle."""
    seed: int

    @property
    def mean(self) -> Float64[Tensor, " part"]:
        """Over prompts."""
        return self.values.mean(0)

    def interval(self, part: int) -> Interval:
        """95 % interval of the mean of one part, prompts resampled."""
        return bootstrap_interval(self.values[:, part], seed=self.seed)

    @property
    def null_bounds(self) -> Float64[Tensor, "2 part"]:
        """Between which 95 % of the shuffles lie."""
        return torch.quantile(self.null, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)

    @property
    def q(self) -> Float64[Tensor, " part"]:
        """Distance of the mean from the middle of the null against that of the shuffles, Benjamini-Hochberg."""
        middle = self.null.mean(0)
        # What no prompt changes is the same in every shuffle, but for rounding
        rounding = FLOAT32_ROUNDING * self.values.abs().amax(0)
        away, null = (
            torch.where(each.abs() > rounding, each, 0.0) for each in (self.mean - middle, self.null - middle)
        )
        p = [p_value(float(away[part]), null[:, part]) for part in range(len(self.names))]
        return benjamini_hochberg(torch.tensor(p, dtype=torch.float64))


@dataclass(frozen=True)
class AttributionStudy:
    """Everything the tables and figures show."""

    questions: tuple[Question, ...]
    target: Target
    aims: tuple[Aim, ...]
    tokens: tuple[tuple[str, str, str], ...]
    """Of each prompt: the token asked for, the wrong one ('' where there is none), the predicted one.

    As text; `#` and its number where the model has no tokenizer.
    """
    components: Contributions
    """The first is the target itself."""
    heads: Contributions
    sides: Float64[Tensor, "prompt head side"]
    """What heads add to the two tokens of a difference (`Aim.sides`); no sides otherwise."""
    neurons: Contributions
    """The largest, the largest first; none without MLPs."""
    n_neurons: int
    """How many these were chosen from."""
    shape: tuple[int, int]
    """Layers and heads a layer."""
    sources: tuple[Source, ...]
    lenses: tuple[Lens, ...]
    null: str
    identities: tuple[Identity, ...]
    seed: int

    @property
    def right(self) -> Float64[Tensor, " prompt"]:
        """1 where the token asked for is the model's first choice."""
        hits = [float(each.top[-1]) == aim.token for each, aim in zip(self.lenses, self.aims, strict=True)]
        return torch.tensor(hits, dtype=torch.float64)


def study_attribution(
    model: HookedTransformer,
    questions: Sequence[Question],
    *,
    target: Target,
    top_neurons: int = 20,
    n_shuffles: int = 1000,
    seed: int = 0,
) -> AttributionStudy:
    """Decompose `target` of every question, at every level.

    `Contributions.null` asks every prompt for the tokens of another one, everything else the same (`null_aims`).
    Raises `ValueError` before any run for no questions, a target they do not have, and counts below 1.
    """
    check_target(questions, target)
    check_count("top_neurons", top_neurons)
    check_count("n_shuffles", n_shuffles)
    runs = [freeze(model, question.text, question.end) for question in track(questions, "runs")]
    aims = [aim_of(question, target, run.logits) for question, run in zip(questions, runs, strict=True)]
    null = null_aims(model, aims, n_shuffles=n_shuffles, seed=seed)
    found = [measure(model, run, aim, null) for run, aim in track(list(zip(runs, aims, strict=True)), "parts")]
    heads = torch.stack([each.parts.heads.flatten(0, 1) for each in found])
    components = torch.stack([torch.stack([each.total, *each.parts.components.values()]) for each in found])
    return AttributionStudy(
        tuple(questions),
        target,
        tuple(aims),
        _tokens(model, aims, runs),
        _contributions((TOTAL, *found[0].parts.components), components, null, seed),
        _contributions(tuple(model.all_head_labels()), heads, null, seed),
        torch.stack([each.sides.flatten(0, 1) for each in found]),
        _neurons(model, runs, aims, _largest([each.neurons for each in found], top_neurons), (null, seed)),
        found[0].neurons.numel(),
        (model.cfg.n_layers, model.cfg.n_heads),
        tuple(each.source for each in found),
        tuple(each.lens for each in found),
        null.statement,
        identities(found),
        seed,
    )


def _tokens(
    model: HookedTransformer, aims: Sequence[Aim], runs: Sequence[FrozenRead]
) -> tuple[tuple[str, str, str], ...]:
    def shown(token: int | None) -> str:
        if token is None:
            return ""
        return f"#{token}" if model.tokenizer is None else model.to_str_tokens([token])[0]

    pairs = zip(aims, runs, strict=True)
    return tuple((shown(aim.token), shown(aim.wrong), shown(int(run.logits.argmax()))) for aim, run in pairs)


def _contributions(
    names: tuple[str, ...], values: Float64[Tensor, "prompt part target"], null: NullAims, seed: int
) -> Contributions:
    """The first target of `values` is the prompt's own, the others are the null's pool."""
    prompts = torch.arange(len(values))
    shuffled = torch.stack([values[prompts, :, 1 + draw].mean(0) for draw in null.draws])
    return Contributions(names, values[:, :, 0], shuffled, seed)


def _largest(found: Sequence[Float64[Tensor, "layer d_mlp"]], count: int) -> list[tuple[int, int]]:
    """(layer, neuron) of the largest mean magnitudes, the largest first."""
    mean = torch.stack(list(found)).mean(0)
    chosen = mean.flatten().abs().argsort(descending=True, stable=True)[:count].tolist()
    return [divmod(index, mean.shape[1]) for index in chosen]


@torch.no_grad()
def _neurons(
    model: HookedTransformer,
    runs: Sequence[FrozenRead],
    aims: Sequence[Aim],
    places: Sequence[tuple[int, int]],
    null: tuple[NullAims, int],
) -> Contributions:
    """Single neurons with their null, which needs the pool's read vectors: these are computed again."""
    pool, seed = null
    values = torch.zeros(len(runs), len(places), 1 + len(pool.pool), dtype=torch.float64)
    for prompt, (run, aim) in enumerate(zip(runs, aims, strict=True)):
        if places:
            vectors = read_vectors(model, run, directions(model, [aim, *pool.pool]))
            found = [_neuron(model, run, vectors.mlp[layer], layer, index) for layer, index in places]
            values[prompt] = torch.stack(found).cpu().double()
    return _contributions(tuple(f"L{layer}N{index}" for layer, index in places), values, pool, seed)


def _neuron(model: HookedTransformer, run: FrozenRead, g: Tensor, layer: int, index: int) -> Tensor:
    post, mlp = run.layers[layer].post, model.blocks[layer].mlp
    assert post is not None
    assert mlp is not None
    return post[index] * (g @ mlp.W_out[index])
