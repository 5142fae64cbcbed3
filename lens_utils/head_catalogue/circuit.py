"""Does the found circuit do the task alone, does the rest do without it, and is each of its heads needed?

A head is taken out by giving it the z it has on the corrupted prompt (other names), position by position. F(K) is the
mean logit difference with the heads of K as they are and all others taken out.
- faithfulness F(C) / F(all);
- completeness: F(C without K) is near F(all without K) for any part K of the circuit;
- minimality: for each head v of C, how much F falls when v is taken out of C (Wang et al. 2022, section 4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils import hook_names
from lens_utils.activations import pad
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.interventions import Hook
from lens_utils.metrics import accuracy, logit_diff
from lens_utils.prompt_pairs import PromptPair

Heads = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Kept:
    """The task with some heads kept and all others taken out, pair by pair."""

    heads: Heads
    logit_diff: Float64[Tensor, " pair"]
    right: Float64[Tensor, " pair"]
    """1 where the answer has the highest logit of the whole vocabulary."""


@dataclass(frozen=True)
class Completeness:
    """One part K of the circuit taken out of the circuit and of the model."""

    removed: Heads
    circuit: Float64[Tensor, " pair"]
    """Logit difference with the circuit without K."""
    model: Float64[Tensor, " pair"]
    """Logit difference with the whole model without K."""


class Evaluator:
    """Runs the clean prompts with any set of heads kept; `ValueError` for pairs of unequal length."""

    def __init__(self, model: HookedTransformer, pairs: Sequence[PromptPair]) -> None:
        unequal = [pair.clean.index for pair in pairs if len(pair.clean) != len(pair.corrupted)]
        if unequal:
            raise ValueError(f"pair {unequal[0]}: its prompts have unequal lengths: heads cannot be exchanged")
        self.model, device = model, model.device
        self.tokens, self.mask = (each.to(device) for each in pad([pair.clean for pair in pairs]))
        corrupted = pad([pair.corrupted for pair in pairs])[0].to(device)
        hooks = [hook_names.z(layer) for layer in range(model.cfg.n_layers)]
        with torch.inference_mode():
            _, cache = model.run_with_cache(corrupted, None, attention_mask=self.mask, names_filter=hooks)
        self.other = {hook: cache[hook] for hook in hooks}
        self.ends = torch.tensor([pair.clean_end for pair in pairs], device=device)
        self.answers = torch.tensor([pair.answer for pair in pairs], device=device)
        self.wrong = torch.tensor([pair.wrong for pair in pairs], device=device)

    @property
    def all_heads(self) -> Heads:
        """Every head of the model."""
        cfg = self.model.cfg
        return frozenset((layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads))

    def hooks(self, kept: Heads) -> list[Hook]:
        """Hooks that give every head outside `kept` its corrupted z."""
        made: list[Hook] = []
        for layer in range(self.model.cfg.n_layers):
            out = torch.tensor([(layer, head) not in kept for head in range(self.model.cfg.n_heads)])
            if bool(out.any()):
                made.append((hook_names.z(layer), _taken_out(out, self.other[hook_names.z(layer)])))
        return made

    @torch.inference_mode()
    def __call__(self, kept: Heads) -> Kept:
        """The task with these heads kept."""
        with self.model.hooks(fwd_hooks=self.hooks(kept)):
            logits = self.model(self.tokens, attention_mask=self.mask, logit_positions=self.ends[:, None])[:, 0]
        difference = logit_diff(logits, self.answers, self.wrong)
        return Kept(kept, difference.double().cpu(), accuracy(logits, self.answers).double().cpu())

    def completeness(self, circuit: Heads, *, n_sets: int, seed: int) -> tuple[Completeness, ...]:
        """The circuit and the model without random halves of the circuit."""
        generator = torch.Generator().manual_seed(seed)
        ordered = sorted(circuit)
        found = []
        for _ in range(n_sets):
            taken = torch.rand(len(ordered), generator=generator) < 0.5
            removed = frozenset(head for head, out in zip(ordered, taken.tolist(), strict=True) if out)
            parts = [self(kept).logit_diff for kept in (circuit - removed, self.all_heads - removed)]
            found.append(Completeness(removed, parts[0], parts[1]))
        return tuple(found)


def _taken_out(out: Bool[Tensor, " head"], other: Tensor) -> Callable[[Tensor, object], Tensor]:
    def replaced(z: Tensor, hook: object) -> Tensor:
        return torch.where(out.to(z.device)[:, None], other, z)

    return replaced
