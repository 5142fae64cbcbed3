"""Measure the shipped models against their acceptance criteria: `python -m lens_utils.zoo.evaluate [NAME ...]`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lens_utils.zoo.recipes import RECIPES, recipe
from lens_utils.zoo.train import WEIGHTS


@dataclass(frozen=True)
class Options:
    """Evaluate shipped models on held-out text and write the figures into their cards."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Models to evaluate; all of them when none is named."""
    folder: Path = WEIGHTS
    """Folder that holds one folder a model."""

    def __post_init__(self) -> None:
        for name in self.names:
            recipe(name)


def main() -> int:
    """Read the options, evaluate, print a table; 1 if a criterion fails, else 0."""
    options = tyro.cli(Options, prog="python -m lens_utils.zoo.evaluate")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from transformers.utils.logging import disable_progress_bar

    from lens_utils.zoo.evaluation import evaluate

    disable_progress_bar()
    table = Table("model", "criterion", "required", "measured", "verdict", title="Shipped models")
    failed = 0
    for name in options.names or tuple(each.name for each in RECIPES):
        for line in evaluate(options.folder / name):
            failed += line.verdict == "FAIL"
            style = "bold red" if line.verdict == "FAIL" else ""
            cells = (name, line.criterion, line.required, line.measured, line.verdict)
            table.add_row(*(Text(cell) for cell in cells), style=style)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
