"""Read a shipped model's folder back, exactly as its card describes it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM, DistilBertForMaskedLM, GPTNeoForCausalLM, PreTrainedTokenizerFast

from lens_utils.hooked_transformer import HookedTransformer, HookedTransformerConfig
from lens_utils.zoo.cards import read_card, sha256
from lens_utils.zoo.networks import Network

_CLASSES: dict[str, Any] = {"gpt-neo": GPTNeoForCausalLM, "bert": BertForMaskedLM, "distilbert": DistilBertForMaskedLM}


def load_shipped(folder: Path) -> tuple[Network, PreTrainedTokenizerFast]:
    """The network, in float32 and evaluation mode, and its tokenizer; the weights must match the card's SHA-256."""
    card, weights = read_card(folder), folder / "model.safetensors"
    if sha256(weights) != card["sha256"]:
        raise ValueError(
            f"{weights}: sha256 is {sha256(weights)}, the card says {card['sha256']}; train the model again"
        )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    family = card["recipe"]["family"]
    if family == "attention-only":
        values = json.loads((folder / "config.json").read_text()) | {"dtype": torch.float32}
        network = HookedTransformer(HookedTransformerConfig(**values), tokenizer)
        network.load_state_dict({name: weight.float() for name, weight in load_file(weights).items()})
    else:
        network = _CLASSES[family].from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
    return network.eval(), tokenizer
