"""What an ablation is judged on: prompt pairs with a right answer, or texts. Costs are positive where it does harm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from lens_utils import metrics
from lens_utils.ablation import LossInput
from lens_utils.ablation_study.engine import CleanRun, ablated_runs, clean_run
from lens_utils.ablation_study.parts import Part
from lens_utils.ablation_study.replacements import Replacement
from lens_utils.activations import pad
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompt_pairs import PromptPair

LOGITS_AT_ONCE = 8_000_000
"""Logits held at a time where a loss needs all positions."""

Rows = Float[Tensor, "ablation scored d_model"]
"""What leaves the last block at the positions that are scored, for each ablation."""
Measures = Float64[Tensor, "measure ablation unit"]
"""Each measure on each prompt under each ablation; more is better."""


@dataclass(frozen=True)
class Task:
    """The clean prompts of pairs; measures: logit difference (nats), and 1 where the answer has the highest logit."""

    run: CleanRun
    """Scored: the positions where the answers are predicted, one a prompt."""
    whole: Float64[Tensor, "measure unit"]
    pairs: tuple[PromptPair, ...]

    @classmethod
    def of(cls, model: HookedTransformer, pairs: Sequence[PromptPair]) -> "Task":
        """Run the clean prompts."""
        tokens, mask = pad([pair.clean for pair in pairs])
        ends = torch.tensor([pair.clean_end for pair in pairs])
        scored = torch.arange(tokens.shape[1]) == ends[:, None]
        run = clean_run(model, tokens, mask, scored)
        task = cls(run, torch.zeros(2, len(pairs), dtype=torch.float64), tuple(pairs))
        return replace(task, whole=task.read(model, run.final.unsqueeze(0))[:, 0])

    @property
    def answers(self) -> Int[Tensor, " pair"]:
        """The tokens that are right."""
        return torch.tensor([pair.answer for pair in self.pairs], device=self.run.mask.device)

    @property
    def wrong(self) -> Int[Tensor, " pair"]:
        """The tokens they are compared with."""
        return torch.tensor([pair.wrong for pair in self.pairs], device=self.run.mask.device)

    def read(self, model: HookedTransformer, final: Rows) -> Measures:
        """Logit difference of answer and wrong answer, and whether the answer comes first."""
        with torch.inference_mode():
            logits = model(final.flatten(0, 1).unsqueeze(1), start_at_layer=model.cfg.n_layers).squeeze(1)
        answers, wrong = (each.repeat(len(final)) for each in (self.answers, self.wrong))
        found = torch.stack([metrics.logit_diff(logits, answers, wrong), metrics.accuracy(logits, answers)])
        return found.double().cpu().view(2, len(final), -1)


@dataclass(frozen=True)
class Texts:
    """Texts; the measure is minus the mean loss over each text's predicted tokens, in nats a token."""

    run: CleanRun
    whole: Float64[Tensor, "measure unit"]
    given: LossInput

    @classmethod
    def of(cls, model: HookedTransformer, given: LossInput) -> "Texts":
        """Run the texts; `given` comes from `ablation.loss_input`."""
        run = clean_run(model, given.tokens, given.mask, given.scored)
        texts = cls(run, torch.zeros(1, len(given.tokens), dtype=torch.float64), given)
        return replace(texts, whole=texts.read(model, run.final.unsqueeze(0))[:, 0])

    def read(self, model: HookedTransformer, final: Rows) -> Measures:
        """Minus the loss of each text."""
        scored = self.given.scored
        owner, answers = scored.nonzero()[:, 0], self.given.answers.to(final.device)
        at_once = max(1, LOGITS_AT_ONCE // (len(answers) * model.cfg.d_vocab))
        losses = []
        with torch.inference_mode():
            for part in final.split(at_once):
                logits = model(part.flatten(0, 1).unsqueeze(1), start_at_layer=model.cfg.n_layers).squeeze(1)
                each = cross_entropy(logits, answers.repeat(len(part)), reduction="none")
                losses.append(each.double().cpu().view(len(part), -1))
        summed = torch.zeros(len(final), len(scored), dtype=torch.float64).index_add(1, owner, torch.cat(losses))
        return -(summed / scored.sum(1)).unsqueeze(0)


Subject = Task | Texts
"""Prompts, and how well a model does on each of them."""


def ablated(model: HookedTransformer, subject: Subject, parts: Sequence[Part], replacement: Replacement) -> Measures:
    """The measures with each part taken out in turn."""
    found: list[Tensor] = []
    order: list[int] = []
    for run in ablated_runs(model, subject.run, parts, replacement):
        found.append(subject.read(model, run.final))
        order += run.indices
    return torch.cat(found, dim=1)[:, torch.tensor(order).argsort()]


def lost(model: HookedTransformer, subject: Subject, parts: Sequence[Part], replacement: Replacement) -> Measures:
    """What each ablation costs on each prompt: unablated minus ablated."""
    return subject.whole[:, None] - ablated(model, subject, parts, replacement)
