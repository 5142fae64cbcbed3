"""Activation patching: what the output loses or regains when one activation of another run is put in its place."""

from lens_utils.patching.gradients import estimate, estimate_paths
from lens_utils.patching.journal import Journal
from lens_utils.patching.kinds import KINDS, Kind, chosen_kinds
from lens_utils.patching.nodes import Node, receivers, senders
from lens_utils.patching.paths import Paths, path_effects
from lens_utils.patching.reference import Cell, patched_path, patched_together, plain_sweep
from lens_utils.patching.runs import DIRECTIONS, Direction
from lens_utils.patching.sweep import Sweep, sweep

__all__ = [
    "DIRECTIONS",
    "KINDS",
    "Cell",
    "Direction",
    "Journal",
    "Kind",
    "Node",
    "Paths",
    "Sweep",
    "chosen_kinds",
    "estimate",
    "estimate_paths",
    "patched_path",
    "patched_together",
    "path_effects",
    "plain_sweep",
    "receivers",
    "senders",
    "sweep",
]
