"""The whole induction story of one model: which heads match, what they copy, what feeds them, what it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils.circuits.composition_study import PairScores, score_pairs
from lens_utils.circuits.copying import eigenvalue_score, ov_eigenvalues, unembedding_gram
from lens_utils.circuits.copying_text import text_copying
from lens_utils.circuits.path_study import ScoreSources, study_sources
from lens_utils.circuits.qk_ov_study import circuit_identity
from lens_utils.circuits.texts import Texts
from lens_utils.circuits.weights import check_attention
from lens_utils.head_labels import LEVEL, THRESHOLDS, HeadEvidence
from lens_utils.head_scores import HeadScores, score_heads
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.identities import Identity
from lens_utils.induction import attention, losses
from lens_utils.induction.attention import Ablations
from lens_utils.induction.formation import Moment, formation
from lens_utils.induction.losses import Repeat
from lens_utils.null_models import shuffled_weights
from lens_utils.prompts import repeated_texts
from lens_utils.statistics import benjamini_hochberg, p_value, sign_flip_p_value

RULES = ("induction", "previous", "current", "first", "recent")
"""Rules whose targets could pass for the induction target on repeated tokens."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    repeats: int
    length: int
    early: int
    late: int
    half: int
    shares: tuple[float, ...]
    nulls: int
    zero: bool
    seed: int


@dataclass(frozen=True)
class Heads:
    """Every head on repeated tokens, [layer, head]."""

    evidence: HeadEvidence
    previous: Float64[Tensor, "layer head"]
    uniform: float
    """Prefix matching of a head that attends to all alike."""
    matches: Bool[Tensor, "layer head"]
    """Label `induction`: lift above its threshold, beyond a uniform head, not explained by another rule or distance."""
    copying: Float64[Tensor, "layer head"]
    """Logit given to the token attended to, over the mean logit, nats."""
    copying_null: Float64[Tensor, "layer head"]
    """97.5 % quantile of random OV circuits of the head's norms on its own pattern."""
    copying_q: Float64[Tensor, "layer head"]
    eigenvalue_score: Float64[Tensor, "layer head"]
    to_first: Float64[Tensor, "text copy layer head"]

    @property
    def induction(self) -> Bool[Tensor, "layer head"]:
        """Matches prefixes and copies."""
        return self.matches & self.copies

    @property
    def copies(self) -> Bool[Tensor, "layer head"]:
        """copying above 0 and above random OV circuits (q <= 0.05)."""
        return (self.copying_q <= LEVEL) & (self.copying > 0)


@dataclass(frozen=True)
class Fuzzy:
    """Repeats with a share of the second copy's tokens changed."""

    share: float
    loss: Float64[Tensor, " text"]
    """On the tokens that can still be foretold; nan for a text without any."""
    matching: Float64[Tensor, "text layer head"]


@dataclass(frozen=True)
class InductionStudy:
    """Everything the tables and figures show."""

    labels: tuple[str, ...]
    n_layers: int
    n_heads: int
    heads: Heads
    copy_losses: Float64[Tensor, "text copy k"]
    null_losses: Float64[Tensor, "text copy k"]
    """Of the model with shuffled weights."""
    null_lift: float
    """Largest lift of a head of that model."""
    foretold: Float64[Tensor, "text copy"]
    """Mean loss of each text on the tokens that can be foretold, in the first and the second copy."""
    p_foretold: float
    """Two-sided, paired over texts (signs flipped)."""
    in_context: Float64[Tensor, " story"]
    fuzzy: tuple[Fuzzy, ...]
    matching: Float64[Tensor, "text layer head"]
    ablations: Ablations
    pairs: PairScores | None
    sources: tuple[ScoreSources, ...]
    formation: tuple[Moment, ...]
    texts: Texts
    plan: Plan
    notes: tuple[str, ...]
    identities: tuple[Identity, ...]

    @property
    def found(self) -> list[tuple[int, int]]:
        """The induction heads, the best match first."""
        score = self.matching.mean(0)
        heads = [(layer, head) for layer, head in self.heads.induction.nonzero().tolist()]
        return sorted(heads, key=lambda at: -float(score[at]))


def study_induction(model: HookedTransformer, texts: Texts, plan: Plan) -> InductionStudy:
    """Everything on `plan.repeats` texts of random tokens said twice; `texts` serve the in-context-learning score.

    Raises `ValueError` for models without attention, post-norm, or unfolded LayerNorm.
    """
    check_attention(model)
    repeats = [Repeat.of(text) for text in _repeats(model, plan)]
    whole = [repeat.text for repeat in repeats]
    scores = score_heads(model, whole, rules=RULES)
    null = shuffled_weights(model, seed=plan.seed)
    null_scores = score_heads(null, whole, rules=("induction",))
    by_copy = losses.by_copy(repeats, losses.text_losses(model, whole))
    foretold = losses.copy_losses(repeats, by_copy)
    told = losses.text_losses(model, texts.texts)
    sources, checks = study_sources(model, whole[:8]) if model.cfg.attn_only else ((), ())
    pairs, pair_checks = _pairs(model, plan)
    moments, heads = formation(model, repeats), _heads(model, repeats, scores, plan)
    return InductionStudy(
        tuple(model.all_head_labels()),
        model.cfg.n_layers,
        model.cfg.n_heads,
        heads,
        by_copy,
        losses.by_copy(repeats, losses.text_losses(null, whole)),
        float(null_scores.lift.max()),
        foretold,
        sign_flip_p_value(foretold[:, 0] - foretold[:, 1], seed=plan.seed, n_shuffles=9999),
        losses.late_minus_early(told, early=plan.early, late=plan.late, half=plan.half),
        tuple(_fuzzy(model, repeats, share, plan) for share in plan.shares),
        attention.matching(scores),
        attention.ablate_each(model, repeats, groups=_previous_heads(model, heads), zero=plan.zero),
        pairs,
        sources,
        moments,
        texts,
        plan,
        _notes(model, moments),
        (*checks, *pair_checks, circuit_identity(model, texts)),
    )


def _pairs(model: HookedTransformer, plan: Plan) -> tuple[PairScores | None, tuple[Identity, ...]]:
    if model.cfg.n_layers < 2:
        return None, ()
    pairs, check = score_pairs(model, n_random=200, n_rotations=50, seed=plan.seed)
    return pairs, (check,)


def _notes(model: HookedTransformer, moments: Sequence[Moment]) -> tuple[str, ...]:
    notes = []
    if not model.cfg.attn_only:
        notes.append("No sources of scores: with MLPs the residual stream is no sum over heads alone.")
    if not moments:
        notes.append("No formation over training: no checkpoints of this model are stored.")
    return tuple(notes)


def _repeats(model: HookedTransformer, plan: Plan):
    return repeated_texts(model, plan.repeats, longest=min(plan.length, (model.cfg.n_ctx - 1) // 2), seed=plan.seed)


def _heads(model: HookedTransformer, repeats: Sequence[Repeat], scores: HeadScores, plan: Plan) -> Heads:
    evidence = HeadEvidence.of(scores, seed=plan.seed)
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    copied = text_copying(model, [repeat.text for repeat in repeats], seed=plan.seed, n_null=plan.nulls)
    value = copied.mean
    p = [p_value(float(value[at]), copied.null[:, at], "greater") for at in range(len(value))]
    weights = ov_eigenvalues(model.W_V.detach(), model.W_O.detach(), unembedding_gram(model))
    return Heads(
        evidence,
        scores.score[RULES.index("previous")].double(),
        float(scores.null[RULES.index("induction")]),
        evidence.labels(THRESHOLDS)[RULES.index("induction")],
        value.view(shape),
        copied.null.quantile(0.975, dim=0).view(shape),
        benjamini_hochberg(torch.tensor(p, dtype=torch.float64)).view(shape),
        eigenvalue_score(weights).cpu(),
        attention.to_first_position(model, repeats),
    )


def _previous_heads(model: HookedTransformer, heads: Heads) -> list[tuple[tuple[int, int], ...]]:
    """The previous-token heads of all layers but the last as a group, where there are several."""
    labelled = heads.evidence.labels(THRESHOLDS)[RULES.index("previous")].nonzero().tolist()
    group = tuple((layer, head) for layer, head in labelled if layer < model.cfg.n_layers - 1)
    return [group] if len(group) > 1 else []


def _fuzzy(model: HookedTransformer, repeats: Sequence[Repeat], share: float, plan: Plan) -> Fuzzy:
    generator = torch.Generator().manual_seed(plan.seed)
    changed = [losses.fuzzy(model, repeat, share, generator=generator) for repeat in repeats]
    scores = score_heads(model, [repeat.text for repeat in changed], rules=("induction",))
    return Fuzzy(share, attention.second_copy_loss(model, changed), attention.matching(scores))
