"""Word classes of tokens by closed lists and simple spelling rules: no tagger, the same answer everywhere.

| class | rule, the first that fits |
|---|---|
| special | the tokenizer's special tokens ([CLS], beginning-of-text, ...) |
| punctuation | no letter and no digit |
| piece | continues a word: written `##...`, or without the space that this tokenizer puts before words |
| auxiliary | be, have, do, modals, and what is cut off a contraction ('s, n't, ...) |
| number | digits, or a number word |
| determiner, pronoun, preposition, conjunction, adverb | closed lists; also adverb: ends in -ly |
| name | a known first name, or a capital letter that does not open a sentence |
| verb | a list of common verbs in their usual forms; also words of five letters or more in -ed or -ing |
| word | everything else: mostly nouns and adjectives |

Ambiguous words have one class only ('that' and 'her' are pronouns, 'to' a preposition), so class counts are
approximate; what is compared between classes should not hang on single words.
"""

from collections.abc import Collection, Sequence

from lens_utils.zoo import words

_CLOSED = {
    "auxiliary": "am is are was were be been being have has had do does did can could will would shall should may might"
    " must cannot can't couldn't won't wouldn't don't doesn't didn't isn't aren't wasn't weren't haven't hasn't hadn't"
    " 's 're 've 'll 'd 'm 't n't not",
    "number": "zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand",
    "determiner": "a an the this these those each every some any no another all both many much few more most his my"
    " your our their its",
    "pronoun": "i you he she it we they me him her us them mine yours hers ours theirs myself himself herself itself"
    " themselves who whom what which that something anything nothing everything someone anyone everyone nobody there",
    "preposition": "in on at to of from with by for about into onto over under between through near behind beside after"
    " before around up down out off across along inside outside without until during like",
    "conjunction": "and or but so because if when while although as than then though nor yet",
    "adverb": "very too also again always never sometimes often once soon now here just only still even away back"
    " together well today why how where maybe almost",
}
_VERBS = (
    "say says said go goes went gone come comes came see sees saw seen look looks like likes want wants play plays"
    " run runs ran take takes took taken make makes made get gets got give gives gave given find finds found think"
    " thinks thought know knows knew known tell tells told ask asks put puts let lets feel feels felt keep keeps kept"
    " sit sits sat eat eats ate eaten sleep sleeps slept fall falls fell leave leaves left buy buys bought bring brings"
    " brought hold holds held lose loses lost meet meets met hear hears heard sing sings sang read reads write writes"
    " wrote stand stands stood fly flies flew try tries cry cries watch watches notice smile smiles help helps love"
    " loves live lives start starts stop stops walk walks jump jumps share shares need needs show shows begin began"
    " become becomes became hug hugs wave waves tried cried"
)
_CLASS_OF = {word: name for name, listed in _CLOSED.items() for word in listed.split()}
_VERB_SET = frozenset(_VERBS.split())
_NAMES = frozenset(
    name.lower() for name in (*words.BOY_NAMES, *words.GIRL_NAMES, *words.HELDOUT_BOY_NAMES, *words.HELDOUT_GIRL_NAMES)
)
_SENTENCE_ENDS = frozenset(".!?:")
_SPACE_MARKS = ("\u0120", "\u2581")
"""What byte-level and SentencePiece tokenizers write for the space before a word."""

WORD_CLASSES = ("special", "punctuation", "piece", *_CLOSED, "name", "verb", "word")
"""Every class, in the order of the tables."""


def word_classes(tokens: Sequence[str], special: Collection[str] = ()) -> tuple[str, ...]:
    """The class of each token of one text (module docstring); `tokens` as `to_str_tokens` gives them.

    `special` holds the tokenizer's special tokens. Whether a token begins a word, and whether it opens a sentence, is
    read from its neighbours.
    """
    spaced = any(token[:1] == " " or token[:1] in _SPACE_MARKS for token in tokens)
    classes: list[str] = []
    opens_sentence, follows_word = True, False
    for token in tokens:
        if token in special:
            classes.append("special")
            follows_word = False
            continue
        name = _class_of(token, opens_sentence=opens_sentence, continues=spaced and follows_word)
        classes.append(name)
        bare = bare_word(token)
        opens_sentence = name == "punctuation" and (opens_sentence or bool(set(bare) & _SENTENCE_ENDS))
        follows_word = name != "punctuation" or bare == "'"
    return tuple(classes)


def bare_word(token: str) -> str:
    """The token without surrounding space and without its tokenizer's marks of spaces and continuations."""
    for mark in _SPACE_MARKS:
        token = token.replace(mark, " ")
    return token.strip().removeprefix("##")


def _class_of(token: str, *, opens_sentence: bool, continues: bool) -> str:
    bare = bare_word(token)
    lower = bare.lower().replace("\u2019", "'")
    if not any(character.isalnum() for character in bare):
        return "punctuation"
    if _CLASS_OF.get(lower) == "auxiliary" and "'" in lower:
        return "auxiliary"
    begins_with_space = token[:1] == " " or token[:1] in _SPACE_MARKS
    if token.startswith("##") or (continues and not begins_with_space):
        return "piece"
    if bare.replace(",", "").replace(".", "").isdigit():
        return "number"
    if lower in _CLASS_OF:
        return _CLASS_OF[lower]
    if lower in _NAMES or (bare[0].isupper() and not opens_sentence):
        return "name"
    if lower in _VERB_SET or (len(lower) >= 5 and lower.endswith(("ed", "ing"))):
        return "verb"
    return "adverb" if len(lower) >= 4 and lower.endswith("ly") else "word"
