"""Evaluate a model's folder and write the figures into its card."""

from dataclasses import asdict
from pathlib import Path

import torch

from lens_utils.zoo.acceptance import Criterion, criteria
from lens_utils.zoo.cards import read_card, write_card
from lens_utils.zoo.recipes import recipe
from lens_utils.zoo.shipped import load_shipped


def evaluate(folder: Path) -> list[Criterion]:
    """Every criterion of the model in `folder`, on one thread; its card is rewritten with them."""
    if not (folder / "card.json").exists():
        raise FileNotFoundError(
            f"{folder / 'card.json'}: no such model; train it with python -m lens_utils.zoo.train {folder.name}"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network, tokenizer = load_shipped(folder)
        lines = criteria(recipe(folder.name), network, tokenizer)
    finally:
        torch.set_num_threads(threads)
    write_card(folder, read_card(folder) | {"evaluation": [asdict(line) for line in lines]})
    return lines
