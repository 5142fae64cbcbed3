"""What repetition does to the loss: by position in each copy, with some tokens changed, and late against early."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lens_utils.activations import pad
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText, length_batches

_POSITIONS_AT_ONCE = 2048


@dataclass(frozen=True)
class Repeat:
    """A text whose last 2 `length` tokens say the same twice, but for the tokens changed in the second copy."""

    text: TokenizedText
    changed: Bool[Tensor, " length"]

    @classmethod
    def of(cls, text: TokenizedText) -> "Repeat":
        """A text of `prompts.repeated_texts`."""
        return cls(text, torch.zeros(len(text) // 2, dtype=torch.bool))

    @property
    def length(self) -> int:
        """Tokens of one copy."""
        return len(self.changed)

    @property
    def start(self) -> int:
        """Position of the first copy's first token: 1 behind the token that begins a text, else 0."""
        return len(self.text) - 2 * self.length


def fuzzy(model: HookedTransformer, repeat: Repeat, share: float, *, generator: torch.Generator) -> Repeat:
    """The same text with this share (rounded) of the second copy's tokens replaced by random ones new to the text."""
    count = round(share * repeat.length)
    places = torch.randperm(repeat.length, generator=generator)[:count]
    known = {*repeat.text.tokens.tolist(), *getattr(model.tokenizer, "all_special_ids", ())}
    others = torch.tensor([token for token in range(model.cfg.d_vocab) if token not in known])
    tokens, changed = repeat.text.tokens.clone(), torch.zeros(repeat.length, dtype=torch.bool)
    changed[places] = True
    tokens[repeat.start + repeat.length + places] = others[torch.randint(len(others), (count,), generator=generator)]
    strings = tuple(model.to_str_tokens(tokens))
    return Repeat(replace(repeat.text, text="".join(strings), tokens=tokens, strings=strings), changed)


def text_losses(model: HookedTransformer, texts: Sequence[TokenizedText]) -> list[Float64[Tensor, " _"]]:
    """Next-token loss of every text at every position but the last, nats, in the order of the texts."""
    found: dict[int, Tensor] = {}
    numbered = [replace(text, index=index) for index, text in enumerate(texts)]
    for batch in length_batches(numbered, max_tokens=_POSITIONS_AT_ONCE, window=len(numbered)):
        tokens, mask = pad(batch)
        with torch.inference_mode():
            losses = model(tokens.to(model.device), "loss", attention_mask=mask.to(model.device), loss_per_token=True)
        for text, row in zip(batch, losses.double().cpu(), strict=True):
            found[text.index] = row[: len(text) - 1]
    return [found[index] for index in range(len(texts))]


def by_copy(repeats: Sequence[Repeat], losses: Sequence[Float64[Tensor, " _"]]) -> Float64[Tensor, "text copy k"]:
    """Loss at the k-th token of each copy, given what stands before it; nan behind the end of a shorter copy.

    The first copy's first token has no loss where nothing stands before it.
    """
    longest = max(repeat.length for repeat in repeats)
    found = torch.full((len(repeats), 2, longest), torch.nan, dtype=torch.float64)
    for row, (repeat, loss) in enumerate(zip(repeats, losses, strict=True)):
        at_token = torch.cat([torch.tensor([torch.nan], dtype=torch.float64), loss])
        found[row, :, : repeat.length] = at_token[repeat.start :].view(2, repeat.length)
    return found


def foreseeable(repeats: Sequence[Repeat], longest: int) -> Bool[Tensor, "text k"]:
    """Tokens of the second copy that an induction head foretells: itself and the one before it unchanged."""
    known = torch.zeros(len(repeats), longest, dtype=torch.bool)
    for row, repeat in enumerate(repeats):
        known[row, 1 : repeat.length] = ~(repeat.changed[1:] | repeat.changed[:-1])
    return known


def copy_losses(repeats: Sequence[Repeat], losses: Float64[Tensor, "text copy k"]) -> Float64[Tensor, "text copy"]:
    """Mean loss of each text on the tokens that can be foretold in the second copy, in both copies; nan without any."""
    known = foreseeable(repeats, losses.shape[2])[:, None].expand_as(losses)
    return torch.where(known, losses, torch.nan).nanmean(2)


def late_minus_early(
    losses: Sequence[Float64[Tensor, " _"]], *, early: int, late: int, half: int
) -> Float64[Tensor, " text"]:
    """In-context-learning score of each text that is long enough: mean loss within `half` tokens of the token at
    position `late` minus the same at `early` (Olsson et al. 2022 take single tokens, 500 and 50); below 0 it learns.
    """

    def around(loss: Tensor, position: int) -> Tensor:
        return loss[max(0, position - half - 1) : position + half].mean()

    long = [loss for loss in losses if len(loss) >= late + half]
    return torch.stack([around(loss, late) - around(loss, early) for loss in long]) if long else torch.zeros(0).double()
