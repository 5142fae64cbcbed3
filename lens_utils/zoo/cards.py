"""Model cards: card.json for programs, card.md for people, both from the same record."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lens_utils.zoo.recipes import Recipe


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checkpoint_list(folder: Path) -> list[dict[str, Any]]:
    """File, step and SHA-256 of each training checkpoint in a model's folder."""
    return [
        {"file": f"checkpoints/{path.name}", "step": int(path.stem.rpartition("_")[2]), "sha256": sha256(path)}
        for path in sorted(folder.glob("checkpoints/step_*.safetensors"))
    ]


def warm_start(recipe: Recipe) -> str:
    """What the weights start from, in words."""
    if not recipe.shape.n_layers:
        return "Both matrices start from random normal values; there are no position embeddings and no LayerNorm."
    return (
        f"Position embeddings start as sinusoids of amplitude {recipe.position_amplitude} and train freely; "
        "every other matrix starts from random normal values. No head is initialised by hand."
        + (
            f" A second stage of {recipe.polish_steps} steps starts from the stored weights."
            if recipe.polish_steps
            else ""
        )
    )


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model's folder."""
    return json.loads((folder / "card.json").read_text())


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write card.json and card.md."""
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    (folder / "card.md").write_text(_markdown(card))


def _markdown(card: dict[str, Any]) -> str:
    recipe, losses = card["recipe"], card["losses"]
    lines = [
        f"# {card['name']}", "", card["about"], "",
        f"Trained by `python -m lens_utils.zoo.train {card['name']}` on {recipe['n_stories']} stories of this "
        f"repository's own grammar (seed {recipe['corpus_seed']}), {recipe['steps']} steps of {recipe['batch_tokens']} "
        f"tokens, seed {recipe['seed']}, "
        f"one thread, {card['train_seconds']:.0f} s.", "",
        f"Start: {card['warm_start']}", "",
        "| field | value |", "|---|---|",
        *(f"| {name} | {value} |" for name, value in {**recipe["shape"], "vocabulary": card["d_vocab"]}.items()),
        f"| last training loss (nats a token) | {list(losses.values())[-1]:.3f} |" if losses else "",
        f"| file size | {card['bytes']} bytes |", f"| sha256 of model.safetensors | `{card['sha256']}` |",
        *(f"| {name} | {version} |" for name, version in card["versions"].items()), "",
    ]  # fmt: skip
    if card.get("evaluation"):
        lines += ["Measured on held-out text by `python -m lens_utils.zoo.evaluate`:", ""]
        lines += ["| criterion | required | measured | verdict |",
                  "|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {row['criterion']} | {row['required']} | {row['measured']} | {row['verdict']} |"
            for row in card["evaluation"]
        ]
        lines.append("")
    if card["checkpoints"]:
        lines += [
            "Checkpoints of the training run, in the format of model.safetensors:",
            "",
            "| step | file | sha256 |",
            "|---|---|---|",
        ]
        lines += [f"| {each['step']} | {each['file']} | `{each['sha256']}` |" for each in card["checkpoints"]]
        lines.append("")
    return "\n".join(line for line in lines)
