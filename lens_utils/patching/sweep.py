"""The patching engine: the metric of every cell of a kind, for many prompt pairs, in both directions.

Exactly what a forward pass with one hook gives (`reference.py`), but from the patched layer on only, only for the
positions that can change, and only for cells at which the two runs differ at all; patches are stacked along the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.metrics import METRICS, Metric, normalised
from lens_utils.patching.changes import Cells, change_of, differing_cells
from lens_utils.patching.journal import Journal
from lens_utils.patching.kinds import Kind, chosen_kinds
from lens_utils.patching.planning import Budget, chunks, pairs_at_once
from lens_utils.patching.propagation import Judge, at_end, propagate
from lens_utils.patching.runs import DIRECTIONS, Direction, Run, Sides, both_sides, engine_hooks, run_texts
from lens_utils.progress import progress
from lens_utils.prompt_pairs import PromptPair


@dataclass(frozen=True)
class Sweep:
    """The metric with each cell of one kind patched, pair by pair."""

    kind: Kind
    direction: Direction
    metric: Metric
    values: Float64[Tensor, "pair *cell"]
    """In the metric's units; axes after `pair` are the kind's, positions those of the clean prompt. nan: no such cell
    (beyond the prompt, or without a counterpart in the corrupted one)."""
    clean: Float64[Tensor, " pair"]
    """The metric of the clean run."""
    corrupted: Float64[Tensor, " pair"]
    run_cells: int
    """Cells that were computed; the others cannot change the metric."""

    @property
    def effects(self) -> Float64[Tensor, "pair *cell"]:
        """0 for the corrupted run, 1 for the clean one, in both directions; nan where these have the same metric."""
        shape = (-1, *[1] * (self.values.ndim - 1))
        return normalised(self.values, self.corrupted.reshape(shape), self.clean.reshape(shape))

    @classmethod
    def joined(cls, parts: Sequence["Sweep"]) -> "Sweep":
        """One sweep of the pairs of several."""
        first, done = parts[0], sum(part.run_cells for part in parts)
        values, clean, corrupted = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("values", "clean", "corrupted")
        )
        return cls(first.kind, first.direction, first.metric, values, clean, corrupted, done)


def sweep(
    model: HookedTransformer,
    pairs: Sequence[PromptPair],
    kinds: Sequence[str],
    *,
    directions: Sequence[Direction] = DIRECTIONS,
    metric: Metric = "logit_diff",
    max_memory: float = 2.0,
    journal: Journal | None = None,
    skip: bool = True,
) -> dict[tuple[str, Direction], Sweep]:
    """Every cell of these kinds for every pair, {(kind, direction): Sweep}.

    `max_memory` bounds activations and work in GiB; `journal` keeps what is done; without `skip`, cells that cannot
    change the metric are computed too (a check of the engine, not of the model). Raises `ValueError` before any
    forward pass for unknown kinds, metrics or directions, too little memory, and patterns of unequal length.
    """
    chosen, budget = chosen_kinds(model, kinds), Budget.of(max_memory)
    _check(pairs, chosen, metric, directions)
    n_pos = max(len(text) for pair in pairs for text in (pair.clean, pair.corrupted))
    at_once = pairs_at_once(model, n_pos, len(pairs), chosen, budget)
    parts: dict[tuple[str, Direction], list[Sweep]] = {
        (kind.name, direction): [] for kind in chosen for direction in directions
    }
    total = len(parts) * model.cfg.n_layers * len(range(0, len(pairs), at_once))
    with progress("patching", total) as advance:
        for begin in range(0, len(pairs), at_once):
            work = _Work(model, pairs[begin : begin + at_once], metric, budget, begin, journal, skip)
            runs = work.runs(chosen)
            for direction in directions:
                for kind in chosen:
                    parts[kind.name, direction].append(work.sweep(runs, kind, direction, n_pos, advance))
    return {key: Sweep.joined(each) for key, each in parts.items()}


def _check(pairs: Sequence[PromptPair], kinds: Sequence[Kind], metric: Metric, directions: Sequence[Direction]) -> None:
    if not pairs:
        raise ValueError("pairs=(): give at least one prompt pair")
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}: choose one of {', '.join(METRICS)}")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction={direction!r}: choose one of {', '.join(DIRECTIONS)}")
    unequal = [pair.clean.index for pair in pairs if len(pair.clean) != len(pair.corrupted)]
    if unequal and any(kind.hook is hook_names.pattern for kind in kinds):
        raise ValueError(
            f"kind 'pattern': the prompts of pair {unequal[0]} have unequal lengths, so their rows of attention do not "
            "fit each other; patch q, k, v or z instead"
        )


@dataclass(frozen=True)
class _Work:
    """Some of the pairs, kept in memory together."""

    model: HookedTransformer
    pairs: Sequence[PromptPair]
    metric: Metric
    budget: Budget
    first_pair: int
    journal: Journal | None
    skip: bool

    def runs(self, kinds: Sequence[Kind]) -> tuple[Run, Run, Judge]:
        """The clean and the corrupted run, and the metric."""
        layers, hooks = range(self.model.cfg.n_layers), engine_hooks(self.model)
        hooks += [kind.hook(layer) for kind in kinds for layer in layers]
        if any(kind.unit == "head" for kind in kinds):
            hooks += [hook_names.z(layer) for layer in layers]
        if any(kind.unit == "neuron" for kind in kinds):
            hooks += [hook_names.mlp_out(layer) for layer in layers]
        clean = run_texts(self.model, [p.clean for p in self.pairs], [p.clean_end for p in self.pairs], hooks)
        corrupted = run_texts(
            self.model, [p.corrupted for p in self.pairs], [p.corrupted_end for p in self.pairs], hooks
        )
        return clean, corrupted, Judge(self.model, self.pairs, self.metric, clean)

    def sweep(
        self, runs: tuple[Run, Run, Judge], kind: Kind, direction: Direction, n_pos: int, advance: Callable[..., None]
    ) -> Sweep:
        """All layers of one kind in one direction."""
        clean, corrupted, judge = runs
        sides = both_sides(self.pairs, clean, corrupted, direction)
        rows = torch.arange(len(self.pairs), device=self.model.device)
        ends = [judge(at_end(run), rows).double().cpu() for run in (clean, corrupted)]
        base = ends[1] if direction == "denoise" else ends[0]
        values = base.reshape(-1, *[1] * len(kind.axes)).repeat(1, *kind.shape(self.model, n_pos))
        if kind.by_pos:
            known = torch.zeros(len(self.pairs), n_pos, dtype=torch.bool)
            for row, pair in enumerate(self.pairs):
                known[row, [here for here, _ in pair.aligned]] = True
            values = torch.where(known.reshape(len(known), *[1] * (values.ndim - 2), n_pos), values, torch.nan)
        run_cells = 0
        for layer in range(self.model.cfg.n_layers):
            cells = differing_cells(sides, kind, layer, skip=self.skip)
            run_cells += len(cells)
            self._fill(values, sides, kind, layer, cells, judge)
            advance()
        return Sweep(kind, direction, self.metric, values, ends[0], ends[1], run_cells)

    def _fill(self, values: Tensor, sides: Sides, kind: Kind, layer: int, cells: Cells, judge: Judge) -> None:
        """Compute the cells of one layer, but for those an earlier run has finished."""
        name = f"{self.first_pair}/{kind.name}/{sides.direction}/{layer}"
        places, flat = _places(values, sides, kind, layer, cells), values.reshape(-1)
        assert flat.data_ptr() == values.data_ptr()
        done = self.journal.done(name) if self.journal else {}
        if done:
            flat[torch.tensor(list(done))] = torch.tensor(list(done.values()), dtype=torch.float64)
            left = torch.tensor([place not in done for place in places.tolist()], dtype=torch.bool)
            cells, places = cells.take(left.nonzero()[:, 0].to(cells.pair.device)), places[left]
        enters = layer if kind.name == "resid_pre" else layer + 1
        whole = self.metric != "logit_diff"
        for rows in chunks(self.model, cells, layer=enters, n_pos=sides.base.n_pos, budget=self.budget, logits=whole):
            part = cells.take(rows)
            resid = propagate(sides.base, change_of(sides, kind, layer, part))
            found, here = judge(resid, part.pair).double().cpu(), places[rows.cpu()]
            flat[here] = found
            if self.journal:
                self.journal.add(name, here.tolist(), found.tolist())


def _places(values: Tensor, sides: Sides, kind: Kind, layer: int, cells: Cells) -> Tensor:
    """Flat index into `values` of each cell."""
    index = [cells.pair.cpu(), torch.full((len(cells),), layer)]
    if kind.unit:
        index.append(cells.unit.cpu())
    if kind.by_pos:
        index.append(sides.clean_positions[cells.pair.cpu(), cells.pos.cpu()])
    flat = torch.zeros(len(cells), dtype=torch.long)
    for size, each in zip(values.shape, index, strict=True):
        flat = flat * size + each
    return flat
