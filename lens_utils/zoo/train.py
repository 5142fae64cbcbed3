"""Train a shipped model: `python -m lens_utils.zoo.train NAME`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lens_utils.zoo.recipes import RECIPES, recipe

WEIGHTS = Path(__file__).parent / "weights"
"""Where the shipped models lie, one folder each."""


@dataclass(frozen=True)
class Options:
    """Train one of the shipped models and write its folder."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of the model; an unknown one lists them all."""
    out: Path = WEIGHTS
    """Folder that gets a folder of the model's name."""
    steps: int | None = None
    """Steps of optimisation; the recipe's when not given."""
    seed: int | None = None
    """Seed of weights and batches; the recipe's when not given."""

    def __post_init__(self) -> None:
        recipe(self.name)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps}; choose 1 or more")


def main() -> None:
    """Read the options and train."""
    names = ", ".join(each.name for each in RECIPES)
    options = tyro.cli(Options, prog="python -m lens_utils.zoo.train", description=f"Train a shipped model: {names}.")
    from lens_utils.zoo.training import train

    folder = train(recipe(options.name), options.out, steps=options.steps, seed=options.seed)
    print(folder)


if __name__ == "__main__":
    main()
