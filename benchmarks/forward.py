"""Forward passes: HookedTransformer, TransformerLens' bridge in compatibility mode, Hugging Face, on the same weights.

`python -m benchmarks.forward` prints the tables. Three kinds of run: plain, with every activation cached, and with one
hook that replaces the first layer's z. Hugging Face has no such cache; its plain forward stands in that table as the
floor. Bridge and ours cache what their default full cache holds.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel

from benchmarks.timing import markdown, measure
from lens_utils import hook_names
from lens_utils.checkpoints import load_folder

OURS, BRIDGE, HUGGING_FACE = "tinylens", "TransformerBridge (compatibility mode)", "Hugging Face"


def two_layers() -> PreTrainedModel:
    """GPT-2 architecture, 2 layers, d_model 512, 8 heads, vocabulary 50257."""
    config = transformers.GPT2Config(n_embd=512, n_layer=2, n_head=8, n_positions=256)
    return transformers.GPT2LMHeadModel(config)


def tinystories_1l() -> PreTrainedModel:
    """The shape of TinyStories-1L-21M: GPT-Neo, 1 layer, 16 heads, d_model 1024."""
    config = transformers.GPTNeoConfig(
        hidden_size=1024, num_layers=1, num_heads=16, attention_types=[[["global"], 1]], intermediate_size=4096
    )
    return transformers.GPTNeoForCausalLM(config)


SHAPES: dict[str, Callable[[], PreTrainedModel]] = {
    "2 layers, d_model 512, 8 x 128 tokens": two_layers,
    "TinyStories-1L-21M shape, 8 x 128 tokens": tinystories_1l,
}


def contenders(reference: PreTrainedModel, tokens: torch.Tensor) -> dict[str, dict[str, Callable[[], object]]]:
    """For each kind of run, what each contender does."""
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        ours = load_folder(Path(folder))
        bridge = TransformerBridge.boot_transformers(folder, hf_model=reference, device="cpu", dtype=torch.float32)
        bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    error = float((ours(tokens) - bridge(tokens)).abs().max())
    if error > 1e-3:
        raise RuntimeError(f"the contenders disagree by {error:.2g}; nothing is timed")
    site = hook_names.z(0)

    def replace(value: torch.Tensor, hook: object) -> torch.Tensor:
        return value * 0.5

    def run_hooked(model: torch.nn.Module) -> Callable[[], object]:
        return lambda: model.run_with_hooks(tokens, fwd_hooks=[(site, replace)])

    floor = {HUGGING_FACE: lambda: reference(tokens, use_cache=False).logits}
    return {
        "plain forward": {OURS: lambda: ours(tokens), BRIDGE: lambda: bridge(tokens)} | floor,
        "full cache": {OURS: lambda: ours.run_with_cache(tokens), BRIDGE: lambda: bridge.run_with_cache(tokens)}
        | floor,
        "one hook": {OURS: run_hooked(ours), BRIDGE: run_hooked(bridge)} | floor,
    }


def main() -> None:
    """Measure every shape and kind and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="counted runs of each contender")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        for shape, build in SHAPES.items():
            tokens = torch.randint(50257, (8, 128))
            for kind, runs in contenders(build().eval(), tokens).items():
                print(markdown(f"{shape}: {kind}", OURS, measure(runs, reference=OURS, rounds=options.rounds)))


if __name__ == "__main__":
    main()
