"""The tokenizer in a model's folder."""

import json
from pathlib import Path
from typing import Any

from lens_utils.checkpoints.errors import CheckpointError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
"""The files that may make up a tokenizer."""


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a whole tokenizer: one file, a word-piece vocabulary, or a vocabulary with merges."""
    present = {name for name in TOKENIZER_FILES if (folder / name).is_file()}
    return bool(present & {"tokenizer.json", "vocab.txt"}) or {"vocab.json", "merges.txt"} <= present


def load_tokenizer(folder: Path, model_format: str | None = None) -> Any:
    """The tokenizer of a folder, or None where it has none; never code from the folder, never the network.

    `CheckpointError` if its files cannot be read.
    """
    if not has_tokenizer(folder):
        return None
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return _tokenizer_class(folder, model_format).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises bare Exceptions on malformed files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder.name}: the tokenizer files cannot be read ({reason})") from error


def _tokenizer_class(folder: Path, model_format: str | None) -> Any:
    """AutoTokenizer chooses by model_type, which old BERT folders and HookedTransformer ones lack."""
    from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        return AutoTokenizer if _names_its_class(folder) else PreTrainedTokenizerFast
    if (folder / "vocab.txt").is_file() and model_format in ("bert", "distilbert", None):
        return BertTokenizer
    if (folder / "vocab.json").is_file():
        return GPT2Tokenizer
    return AutoTokenizer


def _names_its_class(folder: Path) -> bool:
    for file, field in (("tokenizer_config.json", "tokenizer_class"), ("config.json", "model_type")):
        if (folder / file).is_file() and json.loads((folder / file).read_text(encoding="utf-8")).get(field):
            return True
    return False
