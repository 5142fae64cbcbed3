"""What is asked: a text, the position whose logits are read, and the tokens that may be compared there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompt_pairs import PromptPair, answer_position, roles
from lens_utils.prompts import TokenizedText, tokenize_prompts

Target = Literal["answer_minus_wrong", "answer", "top"]
TARGETS: tuple[Target, ...] = ("answer_minus_wrong", "answer", "top")
_NO_TOKEN = -1


@dataclass(frozen=True)
class Question:
    """One text and where its logits are read; `pair` is what it comes from, if it has an answer."""

    text: TokenizedText
    end: int
    pair: PromptPair | None = None

    def roles(self, token: int) -> tuple[str, ...]:
        """What each position is for (`prompt_pairs.roles`); without a pair, `answer` holds `token`."""
        if self.pair is not None:
            return roles(self.pair)
        same = tuple((pos, pos) for pos in range(len(self.text)))
        return roles(PromptPair(self.text, self.text, token, _NO_TOKEN, self.end, self.end, same))


def from_pairs(pairs: Sequence[PromptPair]) -> tuple[Question, ...]:
    """The clean prompt of each pair, read where its answer is predicted."""
    return tuple(Question(replace(pair.clean, index=index), pair.clean_end, pair) for index, pair in enumerate(pairs))


def from_prompts(model: HookedTransformer, prompts: Sequence[str]) -> tuple[Question, ...]:
    """Free texts, read at the last position, or at the mask token of a masked model.

    Raises `ValueError` naming the prompt that is empty, too long, or has not one mask token.
    """
    texts = tokenize_prompts(model, prompts)
    return tuple(Question(text, answer_position(model, text, name=f"prompt {text.index}")) for text in texts)


def check_target(questions: Sequence[Question], target: str) -> None:
    """Raise `ValueError` for no questions, an unknown target, and one that needs answers where there are none."""
    if not questions:
        raise ValueError("questions=(): give at least one prompt or pair")
    if target not in TARGETS:
        raise ValueError(f"target={target!r}: choose one of {', '.join(TARGETS)}")
    if target != "top" and any(question.pair is None for question in questions):
        raise ValueError(f"target={target!r}: free texts have no answer; choose 'top', or give pairs")
