"""Scoring heads beside the forward passes it needs, and beside TransformerLens' `detect_head` for its three labels.

`python -m benchmarks.head_scores` prints the tables: zoo-stories-1l on generated stories and on their first sentences.
`score_heads` runs the model and scores every head under every rule. `detect_head` runs on TransformerLens' own model of
the same weights, the bridge in compatibility mode, and on ours; it is called once a label and takes prompts one by one.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence

import torch
from transformer_lens.head_detector import detect_head
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM

from benchmarks.timing import markdown, measure
from lens_utils import hook_names, load_model
from lens_utils.activations import stream_activations
from lens_utils.head_scores import score_heads
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.models.registry import WEIGHTS_ROOT
from lens_utils.prompts import TokenizedText, tokenize_corpus
from lens_utils.target_rules import RULES
from lens_utils.zoo.stories import stories

OURS = f"score_heads, {len(RULES)} rules"
LABELS = ("previous_token_head", "duplicate_token_head", "induction_head")


def contenders(model: HookedTransformer, bridge: object, texts: Sequence[TokenizedText]) -> dict[str, Callable]:
    """What each contender does with the texts."""
    prompts = [text.text for text in texts]
    hooks = [hook_names.pattern(layer) for layer in range(model.cfg.n_layers)]

    def forward() -> None:
        for _ in stream_activations(model, texts, hooks, max_tokens=1024, window=len(texts)):
            pass

    def detect(contender: object) -> None:
        for label in LABELS:
            detect_head(contender, prompts, label)

    return {
        OURS: lambda: score_heads(model, texts),
        "forward passes alone": forward,
        "detect_head, 3 labels, on TransformerBridge": lambda: detect(bridge),
        "detect_head, 3 labels, on our model": lambda: detect(model),
    }


def main() -> None:
    """Time the contenders in turn, on whole stories and on their first sentences, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds")
    parser.add_argument("--stories", type=int, default=50, help="texts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    model = load_model("zoo-stories-1l")
    folder = str(WEIGHTS_ROOT / "zoo-stories-1l")
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    bridge = TransformerBridge.boot_transformers(folder, hf_model=reference, device="cpu", dtype=torch.float32)
    bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    told = list(stories(options.stories, 0, split="heldout"))
    sentences = [story.split(". ")[0] + "." for story in told]
    for name, words in (("stories", told), ("sentences", sentences)):
        texts = tuple(tokenize_corpus(model, words))
        timings = measure(contenders(model, bridge, texts), reference=OURS, rounds=options.rounds)
        print(markdown(f"{len(texts)} {name}, {sum(map(len, texts))} tokens, 16 heads", OURS, timings))


if __name__ == "__main__":
    main()
