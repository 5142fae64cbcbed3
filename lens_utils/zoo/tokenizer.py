"""The tokenizer of the shipped models: one token a corpus word, single characters for every other word."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lens_utils.zoo.stories import stories

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD, UNK, CLS, SEP, MASK, END = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>")
"""The special tokens, in id order."""

_PUNCTUATION = tuple(".,!?:;-()'\u201c\u201d")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PIECES = r"[A-Za-z]+|'(?:s|m|re|ve|ll|d)\b|[0-9]|[^A-Za-z0-9\s]"
_WORD = r"[A-Za-z]+n't|" + _PIECES
_OPENING_QUOTE = r'(?<![^\s(])"'


def corpus_words(texts: Iterable[str], *, least: int) -> list[str]:
    """The words that occur in at least `least` texts, most frequent first, ties in alphabetical order."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(set(re.findall(_WORD, text)))
    common = [word for word, texts_with in found.items() if texts_with >= least and len(word) > 1]
    return sorted(common, key=lambda word: (-found[word], word))


def vocabulary(*, sample: int) -> list[str]:
    """Every token of the shipped tokenizer in id order: special, punctuation, characters, corpus words."""
    letters = _LETTERS + _LETTERS.upper() + "0123456789"
    characters = [*letters, *(f"##{letter}" for letter in letters)]
    return [*SPECIAL, *_PUNCTUATION, *characters, *corpus_words(stories(sample, 0), least=3)]


def build_tokenizer(
    tokens: list[str], *, masked: bool, n_ctx: int, token_types: bool = False
) -> "PreTrainedTokenizerFast":
    """A fast tokenizer over `tokens`; masked models get [CLS] and [SEP] around a text, causal ones nothing."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_inner(tokens, masked=masked),
        pad_token=PAD,
        unk_token=UNK,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
        bos_token=END,
        eos_token=END,
        model_max_length=n_ctx,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"],
    )


def _inner(tokens: list[str], *, masked: bool) -> "Tokenizer":
    """Words and punctuation apart, opening and closing quotes told apart, and all of it undone by the decoder."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    contractions = "".join(rf"\b{token}\b|" for token in tokens if token.endswith("n't"))
    ids = {token: index for index, token in enumerate(tokens)}
    inner: Any = Tokenizer(models.WordPiece(ids, unk_token=UNK, max_input_chars_per_word=100))  # pyright: ignore
    quotes = [("\u2019", "'"), (Regex(_OPENING_QUOTE), "\u201c"), ('"', "\u201d")]
    inner.normalizer = normalizers.Sequence([normalizers.Replace(old, new) for old, new in quotes])
    words = pre_tokenizers.Split(Regex(contractions + _PIECES), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    joins = [
        (r" (?=[.,!?;:)\u201d])| (?='(?:s|m|re|ve|ll|d)\b)|(?<=[\u201c(]) ", ""),
        (r"(?<=n) ' (?=t\b)", "'"),
        ("[\u201c\u201d]", '"'),
    ]
    steps: list[Any] = [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse()]
    inner.decoder = decoders.Sequence(steps + [decoders.Replace(Regex(old), new) for old, new in joins])
    if masked:
        inner.post_processor = processors.BertProcessing((SEP, ids[SEP]), (CLS, ids[CLS]))
    return inner
