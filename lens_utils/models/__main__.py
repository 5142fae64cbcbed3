"""List the models tinylens knows: name, size, family, source, what for."""

import argparse

from lens_utils.models.registry import SPECS, ModelSpec, parameter_count

_FILE_WIDTH = 170


def main() -> None:
    """Print the table of models: name, size, family, source, what for."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    argparse.ArgumentParser(
        prog="python -m lens_utils.models", description="List the models tinylens knows."
    ).parse_args()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("family", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_column("what for")
    for spec in SPECS:
        table.add_row(spec.name, size(spec), spec.family, source(spec), spec.purpose)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)
    console.print("size: number of weights. Any hub id (owner/name) and any local folder can be given as a model too.")


def size(spec: ModelSpec) -> str:
    """Number of weights for people: 66.2M."""
    count = parameter_count(spec)
    if count is None:
        return "?"
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}K"


def source(spec: ModelSpec) -> str:
    """Where it comes from: shipped with tinylens, or a hub id."""
    return "shipped" if spec.source == "shipped" else f"hub: {spec.location}"


if __name__ == "__main__":
    main()
