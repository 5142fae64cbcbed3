"""Attention scores of heads: how much of its attention each head gives to the targets of each rule.

score = mean, over rows (query tokens) that have a target, of the attention mass on the targets; rows without one do
not count, and a rule without any row has no score (nan), not 0. The uniform null of a row is |targets| / |visible
keys|; lift = (score - null) / (1 - null): 0 for a head that attends to all alike, 1 for one that attends to targets
only. Everything is summed per prompt, so that intervals and tests can resample prompts, which are independent; rows
of one prompt are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import stream_activations
from lens_utils.head_sums import HeadSums, padded
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText
from lens_utils.target_cells import Cells
from lens_utils.target_rules import RULES, rule_named
from lens_utils.text_structure import Text

MAX_RULES = 62
"""Rules that one pass scores: a cell's code has a bit for each."""
_POSITIONS_AT_ONCE = 1024
_SHUFFLES_AT_ONCE = 1000


@dataclass(frozen=True)
class HeadScores:
    """Sums over the rows of each prompt, from which score, null, lift and their intervals follow."""

    rules: tuple[str, ...]
    mass: Float[Tensor, "prompt rule layer head"]
    """Attention mass on targets, summed over rows that have one."""
    rows: Float[Tensor, "prompt rule"]
    """Number of rows that have a target."""
    expected: Float[Tensor, "prompt rule"]
    """The mass that a uniform head has."""
    beyond: Float[Tensor, "rule rival layer head"]
    """Lift on those targets of a rule that are no targets of a rival, among the mass a head spread evenly over the
    rule's targets has there; nan where less than a twentieth of the rule's targets are left."""
    by_distance: Float[Tensor, "rule layer head"]
    """The score that the head's mean attention at each distance from the query would give."""
    entropy: Float[Tensor, "layer head"]
    """Mean entropy of a row, nats."""
    distance: Float[Tensor, "layer head"]
    """Mean distance from query back to key, tokens (negative: ahead)."""
    special: Float[Tensor, "layer head"]
    """Mean mass on special tokens."""

    @property
    def score(self) -> Float[Tensor, "rule layer head"]:
        """Mean mass on targets; nan for a rule without rows."""
        return self.mass.sum(0) / self.rows.sum(0)[:, None, None]

    @property
    def null(self) -> Float[Tensor, " rule"]:
        """The score of a uniform head."""
        return self.expected.sum(0) / self.rows.sum(0)

    @property
    def lift(self) -> Float[Tensor, "rule layer head"]:
        """(score - null) / (1 - null)."""
        null = self.null[:, None, None]
        return (self.score - null) / (1 - null)

    @property
    def lift_beyond_distance(self) -> Float[Tensor, "rule layer head"]:
        """(score - by_distance) / (1 - by_distance): what distance from the query alone does not bring about."""
        return (self.score - self.by_distance) / (1 - self.by_distance)

    def intervals(
        self, *, seed: int, n_resamples: int = 1000, level: float = 0.95
    ) -> tuple[Float[Tensor, "bound rule layer head"], Float[Tensor, "bound rule layer head"]]:
        """Lower and upper bounds of the score, and of the lift: percentile bootstrap over prompts (Efron 1979)."""
        n = len(self.mass)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(n, (n_resamples, n), generator=generator)
        weights = torch.zeros(n_resamples, n, dtype=torch.float64)
        weights.scatter_add_(1, chosen, torch.ones(n_resamples, n, dtype=torch.float64))
        rows, expected = ((weights @ each.double())[:, :, None, None] for each in (self.rows, self.expected))
        mass = einsum(weights, self.mass.double(), "sample prompt, prompt rule layer head -> sample rule layer head")
        tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        # A resample without a single row of a rare rule says nothing about it
        score, lift = (each.nanquantile(tail, dim=0) for each in (mass / rows, (mass - expected) / (rows - expected)))
        return score, lift

    def p_values(self, *, seed: int, n_shuffles: int = 9999) -> Float[Tensor, "rule layer head"]:
        """One-sided p that the excess over a uniform head is chance: signs of prompts' excesses flipped.

        The least possible is about 2 to the minus number of prompts; nan for a rule without rows.
        """
        excess = rearrange(
            self.mass.double() - self.expected.double()[:, :, None, None], "p rule layer head -> p (rule layer head)"
        )
        generator = torch.Generator().manual_seed(seed)
        observed = excess.sum(0)
        reached = torch.zeros_like(observed)
        signs = torch.randint(2, (n_shuffles, len(excess)), generator=generator).double() * 2 - 1
        for part in signs.split(_SHUFFLES_AT_ONCE):
            reached += (part @ excess >= observed - 1e-9 * observed.abs()).sum(0)
        p = ((1 + reached) / (1 + n_shuffles)).view(self.mass.shape[1:])
        return torch.where(self.rows.sum(0)[:, None, None] > 0, p, torch.nan)


def check_rules(names: Sequence[str]) -> tuple[str, ...]:
    """The names; raises `ValueError` for none, a repeated or an unknown one, with the choices."""
    if not names:
        raise ValueError(f"rules=(): name at least one of {', '.join(RULES)}, or offset-K")
    for name in names:
        rule_named(name)
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ValueError(f"rules: {', '.join(repeated)} given twice")
    if len(names) > MAX_RULES:
        raise ValueError(f"rules: {len(names)} given; at most {MAX_RULES} at once")
    return tuple(names)


def score_heads(
    model: HookedTransformer, texts: Sequence[TokenizedText], *, rules: Sequence[str] = tuple(RULES)
) -> HeadScores:
    """Scores of every head of every layer for every rule, over texts of any lengths, in the order of the texts.

    Raises `ValueError` for unknown rules, a model without attention, no text, and texts of one token.
    """
    names = check_rules(rules)
    if not model.cfg.n_layers:
        raise ValueError(f"model {model.cfg.model_name!r} has no attention layer: it has no heads to score")
    if not texts:
        raise ValueError("prompts=(): give at least one prompt")
    for text in texts:
        if len(text) < 2:
            raise ValueError(f"prompt {text.index} ({text.text!r}) has one token: attention needs at least two")
    hooks = [hook_names.pattern(layer) for layer in range(model.cfg.n_layers)]
    # Numbered anew, since the caller's numbers need not be 0, 1, 2, ...
    numbered = [replace(text, index=index) for index, text in enumerate(texts)]
    parts = []
    for batch in stream_activations(model, numbered, hooks, max_tokens=_POSITIONS_AT_ONCE, window=len(numbered)):
        cells = Cells.of(batch, names, causal=not model.cfg.is_masked)
        parts.append(HeadSums.of(batch, [batch.cache[hook] for hook in hooks], cells))
    return _finished(names, parts)


def joined(scores: HeadScores, probe: HeadScores, name: str) -> HeadScores:
    """The scores, and the one rule of a probe on texts of its own as a rule `name`; neither explains the other.

    Entropy, distance and special tokens stay those of the first.
    """
    n, n_rules = len(scores.mass), len(scores.rules)

    def both(of: str) -> Tensor:
        first, second = getattr(scores, of), getattr(probe, of)
        whole = first.new_zeros(n + len(second), n_rules + 1, *first.shape[2:])
        whole[:n, :n_rules], whole[n:, n_rules:] = first, second
        return whole

    beyond = scores.beyond.new_full((n_rules + 1, n_rules + 1, *scores.beyond.shape[2:]), torch.nan)
    beyond[:n_rules, :n_rules] = scores.beyond
    return replace(
        scores,
        rules=(*scores.rules, name),
        mass=both("mass"),
        rows=both("rows"),
        expected=both("expected"),
        beyond=beyond,
        by_distance=torch.cat([scores.by_distance, probe.by_distance]),
    )


def _finished(rules: tuple[str, ...], parts: Sequence[HeadSums]) -> HeadScores:
    back = torch.tensor([index for part in parts for index in part.order]).argsort()
    about = torch.stack([part.about_rows for part in parts]).sum(0) / sum(part.n_rows for part in parts)
    rows = torch.cat([part.rows for part in parts])[back]
    return HeadScores(
        rules,
        torch.cat([part.mass for part in parts])[back],
        rows,
        torch.cat([part.expected for part in parts])[back],
        _beyond(parts),
        _by_distance(parts) / rows.sum(0)[:, None, None],
        *about,
    )


def _beyond(parts: Sequence[HeadSums]) -> Float[Tensor, "rule rival layer head"]:
    """(mass - expected) / (even - expected) over the cells that are targets of the rule and not of the rival."""
    mass, expected, even, total = (torch.zeros(()) for _ in range(4))
    for part in parts:
        holds = part.member.float()
        without = einsum(holds, 1 - holds, "code rule, code rival -> code rule rival")
        mass = mass + einsum(without, part.code_mass, "code rule rival, code layer head -> rule rival layer head")
        expected = expected + einsum(without, part.code_expected, "code rule rival, code -> rule rival")
        even = even + einsum(without, part.code_even, "code rule rival, code rule -> rule rival")
        total = total + einsum(holds, part.code_even, "code rule, code rule -> rule")
    left = (even > total[:, None] / 20) & (even > expected)
    lift = (mass - expected[..., None, None]) / (even - expected)[..., None, None]
    return torch.where(left[..., None, None], lift, torch.nan)


def _by_distance(parts: Sequence[HeadSums]) -> Float[Tensor, "rule layer head"]:
    """Mass on targets if every cell had the head's mean attention at its distance."""
    longest = max(part.distances.n_keys for part in parts)
    attention, visible, targets = (
        torch.stack([padded(getattr(part.distances, name), longest) for part in parts]).sum(0)
        for name in ("attention", "visible", "targets")
    )
    profile = attention / visible.clamp(min=1)
    return einsum(targets, profile, "rule distance, layer head distance -> rule layer head")


def score_by_definition(
    patterns: Float[Tensor, "layer head query key"], text: TokenizedText, rules: Sequence[str], *, causal: bool
) -> Float[Tensor, "rule layer head"]:
    """Scores of one text straight from their definition, rule by rule: the check on `score_heads`."""
    read = Text(text.strings, text.classes)
    scores = []
    for rule in rules:
        targets = torch.from_numpy(rule_named(rule)(read))
        targets = targets.tril() if causal else targets
        rows = targets.any(-1)
        scores.append((patterns * targets).sum(-1)[..., rows].mean(-1))
    return torch.stack(scores)
