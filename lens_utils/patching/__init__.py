"""Activation patching: what the output loses or regains when one activation of another run is put in its place."""

from lens_utils.patching.journal import Journal
from lens_utils.patching.kinds import KINDS, Kind, chosen_kinds
from lens_utils.patching.reference import Cell, patched_together, plain_sweep
from lens_utils.patching.runs import DIRECTIONS, Direction
from lens_utils.patching.sweep import Sweep, sweep

__all__ = [
    "DIRECTIONS",
    "KINDS",
    "Cell",
    "Direction",
    "Journal",
    "Kind",
    "Sweep",
    "chosen_kinds",
    "patched_together",
    "plain_sweep",
    "sweep",
]
