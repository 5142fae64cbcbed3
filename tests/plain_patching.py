"""The plain loop over every cell of toy models: thousands of forward passes, what the patching engine must equal.

Run as a program (`python tests/plain_patching.py FILE`), as checks of shapes at run time would take nine tenths of it.
"""

import copy
import sys
from collections.abc import Sequence

import torch
from conftest import BERT_FIELDS, toy_model
from torch import Tensor
from toy_pairs import toy_pairs

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.metrics import METRICS, Metric
from lens_utils.patching import DIRECTIONS, KINDS, plain_sweep
from lens_utils.prompt_pairs import PromptPair

NO_MLP = {"attn_only": True, "d_mlp": None, "act_fn": None}
SMALL = {"n_heads": 2, "d_mlp": 3}
MODELS: dict[str, dict] = {
    "attention-only": NO_MLP | {"normalization_type": None},
    "pre-norm": {},
    "gpt-neo": {"use_local_attn": True, "attn_types": ("global", "local"), "window_size": 3, "use_attn_scale": False},
    "local": NO_MLP | {"n_layers": 3, "use_local_attn": True, "attn_types": ("local",) * 3, "window_size": 2},
    "shortformer": NO_MLP | {"positional_embedding_type": "shortformer"},
    "post-norm encoder": BERT_FIELDS,
    "attention-only encoder": BERT_FIELDS | NO_MLP,
}
UNEQUAL_MODELS = ("shortformer", "post-norm encoder")
UNEQUAL_KINDS = ("resid_pre", "attn_out", "z", "q", "k", "k_by_pos", "v_by_pos")
METRIC_MODELS = ("pre-norm", "post-norm encoder")
METRIC_KINDS = ("mlp_out", "z", "k_by_pos", "pattern")

Plain = dict[tuple[str, str], list[Tensor]]
"""(kind, direction) -> the cells of each pair."""


def small(name: str) -> HookedTransformer:
    """A toy model of few heads and neurons."""
    return toy_model(**(SMALL | MODELS[name]))


def precise(model: HookedTransformer) -> HookedTransformer:
    """The same weights in float64."""
    twin = copy.deepcopy(model).double()
    twin.cfg.dtype = torch.float64
    return twin


def kinds_of(model: HookedTransformer, *, pattern: bool = True) -> list[str]:
    """Every kind the model has."""
    usable = [kind.name for kind in KINDS.values() if not (kind.needs_mlp and model.cfg.attn_only)]
    return [name for name in usable if pattern or not name.startswith("pattern")]


def plain_loop(
    model: HookedTransformer, pairs: Sequence[PromptPair], kinds: Sequence[str], metric: Metric = "logit_diff"
) -> Plain:
    """Every cell of every pair by forward passes of its own."""
    return {
        (kind, direction): [plain_sweep(model, pair, kind, direction=direction, metric=metric) for pair in pairs]
        for kind in kinds
        for direction in DIRECTIONS
    }


def all_loops() -> dict[str, Plain]:
    """The loops the tests compare with; all in float64, but for the metrics, which are in float32."""
    loops = {}
    for name in MODELS:
        model = precise(small(name))
        loops[name] = plain_loop(model, toy_pairs(model)[2:], kinds_of(model))
    for name in UNEQUAL_MODELS:
        model = precise(small(name))
        loops[f"unequal {name}"] = plain_loop(model, toy_pairs(model, unequal=True)[3:], UNEQUAL_KINDS)
    for name in METRIC_MODELS:
        model = small(name)
        for metric in METRICS:
            loops[f"{metric} {name}"] = plain_loop(model, toy_pairs(model)[2:], METRIC_KINDS, metric)
    return loops


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(all_loops(), sys.argv[1])
