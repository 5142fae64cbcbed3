"""Train a recipe from its seed and write the model's folder in one move."""

import dataclasses
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from lens_utils.zoo import cards
from lens_utils.zoo.networks import Network, half_state, new_network, save_network
from lens_utils.zoo.objectives import objective
from lens_utils.zoo.optimise import History, optimise
from lens_utils.zoo.recipes import Recipe
from lens_utils.zoo.tokenizer import build_tokenizer, vocabulary


def train(recipe: Recipe, out: Path, *, steps: int | None = None, seed: int | None = None) -> Path:
    """Train and write `out/NAME`; the same recipe, steps and seed give the same weights to the byte.

    Runs on one thread, since sums over several threads differ in their last bits. The folder is written
    beside its place and moved there when complete.
    """
    recipe = dataclasses.replace(recipe, steps=steps or recipe.steps, seed=recipe.seed if seed is None else seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=f".{recipe.name}-") as scratch:
            folder = Path(scratch) / recipe.name
            folder.mkdir()
            _train_into(recipe, folder)
            return _move(folder, out / recipe.name)
    finally:
        torch.set_num_threads(threads)


def recipe_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """The tokenizer of a recipe's model; all recipes share one vocabulary."""
    return build_tokenizer(
        vocabulary(sample=recipe.vocabulary_stories),
        masked=recipe.masked,
        n_ctx=recipe.shape.n_ctx,
        token_types=recipe.family == "bert",
    )


def _train_into(recipe: Recipe, folder: Path) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    tokenizer = recipe_tokenizer(recipe)
    network = new_network(recipe, tokenizer, generator)
    loss_at = objective(network, tokenizer, recipe, generator)

    def keep(step: int) -> None:
        if step in recipe.checkpoints:
            (folder / "checkpoints").mkdir(exist_ok=True)
            save_file(
                half_state(network), folder / "checkpoints" / f"step_{step:05d}.safetensors", metadata={"format": "pt"}
            )

    history = optimise(network, loss_at, recipe, steps=recipe.steps, after=keep)
    if recipe.polish_steps:
        more = polish(network, tokenizer, recipe, keep)
        history.losses |= {recipe.steps + step: loss for step, loss in more.losses.items()}
        history.seconds += more.seconds
    save_network(network.eval(), tokenizer, folder)
    cards.write_card(folder, _card(recipe, history, len(tokenizer), folder))


def polish(
    network: Network, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, after: Callable[[int], None]
) -> History:
    """The second stage of a recipe, from the weights as they are stored."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.half().float())
    second = dataclasses.replace(recipe, seed=recipe.seed + 1, learning_rate=1.5e-3, warm_up=50, decay_from=0.3)
    generator = torch.Generator().manual_seed(second.seed)
    loss_at = objective(network, tokenizer, second, generator)
    return optimise(
        network,
        lambda step: loss_at(recipe.steps + step),
        second,
        steps=recipe.polish_steps,
        after=lambda step: after(recipe.steps + step),
    )


def _card(recipe: Recipe, history: History, d_vocab: int, folder: Path) -> dict[str, Any]:
    """What is known about a model right after training; evaluation adds its figures."""
    return {
        "name": recipe.name, "about": recipe.about, "recipe": dataclasses.asdict(recipe), "d_vocab": d_vocab,
        "warm_start": cards.warm_start(recipe),
        "losses": {str(step): round(loss, 5) for step, loss in history.losses.items()},
        "train_seconds": round(history.seconds, 1), "threads": 1,
        "bytes": (folder / "model.safetensors").stat().st_size,
        "sha256": cards.sha256(folder / "model.safetensors"), "checkpoints": cards.checkpoint_list(folder),
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__, "safetensors": safetensors.__version__,
        },
    }  # fmt: skip


def _move(folder: Path, target: Path) -> Path:
    """Put a finished folder in its place; an older one is put aside first and removed last."""
    old = target.with_name(f".{target.name}-old")
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target
