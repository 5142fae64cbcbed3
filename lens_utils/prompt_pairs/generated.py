"""The built-in sets: endless streams of pairs as text, seeded."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompt_pairs.pairs import PairText
from lens_utils.zoo import words
from lens_utils.zoo.prompts import agreement_prompts, name_recipient_prompts, negation_prompts

LETTERS = "BCDEFGHJKLMNOPQRSTUVWXYZ"
"""Capital letters that are no word of their own."""
_VERB_ENDINGS = {"was": "big", "is": "big", "has": "a name"}
"""What can follow the verb in a sentence of a masked model."""


def name_recipient(model: HookedTransformer, seed: int) -> Iterator[PairText]:
    """`A and B went ..., A gave a ball to` -> B, with the giver's second mention swapped (Wang et al. 2022)."""
    for text, subject, io, group in _recipients(seed):
        swapped = _replace_last(text, subject, io)
        yield _asked(model, PairText(text, swapped, io, subject, group), after=".")


def name_recipient_abc(model: HookedTransformer, seed: int) -> Iterator[PairText]:
    """The same against a prompt with three other names: nothing in it tells the answer (Wang et al. 2022, p_ABC)."""
    rng = random.Random(f"abc:{seed}")
    people = words.BOY_NAMES + words.GIRL_NAMES
    for text, subject, io, group in _recipients(seed):
        one, two, three = rng.sample([name for name in people if name not in (subject, io)], 3)
        other = _rename(_replace_last(text, subject, three), {subject: one, io: two})
        yield _asked(model, PairText(text, other, io, subject, group), after=".")


def capital_letters(model: HookedTransformer, seed: int) -> Iterator[PairText]:
    """`name_recipient` with capital letters for names: `X and Q went ..., X gave a ball to` -> Q."""
    rng = random.Random(f"letters:{seed}")
    for text, subject, io, group in _recipients(seed):
        one, two = rng.sample(LETTERS, 2)
        text = _rename(text, {subject: one, io: two})
        yield _asked(model, PairText(text, _replace_last(text, one, two), two, one, group), after=".")


def negation(model: HookedTransformer, seed: int) -> Iterator[PairText]:
    """`Tom was not happy. He was` -> sad, against `Tom was very happy. He was` -> happy."""
    rng = random.Random(f"negation:{seed}")
    rows = [row for pair in words.PERSON_ANTONYMS for row in negation_prompts(pair, names="train")]
    while True:
        row = rng.choice(rows)
        emphasised = row.negated.replace(" not ", " very ")
        yield _asked(model, PairText(row.negated, emphasised, row.antonym, row.adjective, ""), after=".")


def agreement(model: HookedTransformer, seed: int) -> Iterator[PairText]:
    """`The dogs near the cat` -> are, against `The dog near the cat` -> is."""
    number = {words.plural(noun): noun for noun in words.AGREEMENT_NOUNS}
    other = number | {noun: many for many, noun in number.items()}
    for part in count():
        for row in agreement_prompts(64, seed + 1_000_003 * part):
            subject = row.prompt.split()[1]
            changed = row.prompt.replace(f" {subject} ", f" {other[subject]} ", 1)
            after = f" {_VERB_ENDINGS[row.wrong if row.plural else row.right]}."
            group = "plural" if row.plural else "singular"
            yield _asked(model, PairText(row.prompt, changed, row.right, row.wrong, group), after=after)


Generator = Callable[[HookedTransformer, int], Iterator[PairText]]
TEXT_SETS: dict[str, Generator] = {
    "name_recipient": name_recipient,
    "name_recipient_abc": name_recipient_abc,
    "capital_letters": capital_letters,
    "negation": negation,
    "agreement": agreement,
}


def _recipients(seed: int) -> Iterator[tuple[str, str, str, str]]:
    """(text, subject, indirect object, order of the names) without end, the two orders in turn."""
    for part in count():
        for row in name_recipient_prompts(64, seed + 1_000_003 * part):
            yield row.prompt, row.subject, row.io, row.order


def _asked(model: HookedTransformer, pair: PairText, *, after: str) -> PairText:
    """The pair as the model needs it: a masked model gets its mask token in the answer's place."""
    if not model.cfg.is_masked:
        return pair
    ending = f" {model.tokenizer.mask_token}{after}"
    return replace(pair, clean=pair.clean + ending, corrupted=pair.corrupted + ending)


def _replace_last(text: str, old: str, new: str) -> str:
    """The text with the last mention of a name replaced."""
    last = list(re.finditer(rf"\b{old}\b", text))[-1]
    return text[: last.start()] + new + text[last.end() :]


def _rename(text: str, names: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], text)
