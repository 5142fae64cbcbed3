"""What each position of a pair is for, so that positions of prompts of different wording can be pooled."""

from collections.abc import Sequence

from lens_utils.prompt_pairs.pairs import PromptPair

MOST_NUMBERED = 3
"""Up to so many positions of one role in a prompt are told apart by number."""


def roles(pair: PromptPair) -> tuple[str, ...]:
    """A role for each position of the clean prompt.

    `end`: where the answer is predicted; `answer`, `wrong`: the position holds that token (in a name-recipient prompt
    the indirect object and the subject); `as end`: an earlier copy of the token at the end; `changed`: another token in
    the corrupted prompt; `after ...`: right behind one of these; `first`: position 0; `other`. A role that a prompt has
    two or three times is numbered.
    """
    tokens = pair.clean.tokens.tolist()
    differing = set(pair.differing)
    named: dict[int, str] = {}
    for pos, token in enumerate(tokens):
        if pos == pair.clean_end:
            named[pos] = "end"
        elif token in (pair.answer, pair.wrong):
            named[pos] = "answer" if token == pair.answer else "wrong"
        elif token == tokens[pair.clean_end]:
            named[pos] = "as end"
        elif pos in differing:
            named[pos] = "changed"
    full = dict(named)
    for pos in range(len(tokens)):
        if pos not in named and pos - 1 in named:
            full[pos] = f"after {named[pos - 1]}"
    full.setdefault(0, "first")
    return _numbered([full.get(pos, "other") for pos in range(len(tokens))])


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    counts = {name: names.count(name) for name in names}
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        alone = name == "other" or not 2 <= counts[name] <= MOST_NUMBERED
        out.append(name if alone else f"{name} {seen[name]}")
    return tuple(out)
