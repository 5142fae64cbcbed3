"""Toy models that read text: a word-level tokenizer over the words of the named prompts."""

import re

from conftest import BERT_FIELDS, toy_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import CONTRAST_PROMPTS, MOON_PROMPT

SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "<bos>")
WORDS = tuple(sorted(set(re.findall(r"\w+|[^\w\s]", " ".join((MOON_PROMPT, *CONTRAST_PROMPTS))))))


def word_tokenizer(*, masked: bool = False) -> PreTrainedTokenizerFast:
    """One token a word; [CLS] ... [SEP] around texts of a masked model."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if masked:
        ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token="<bos>",
    )


def reading_model(*, masked: bool = False, **changes: object) -> HookedTransformer:
    """A toy model with that tokenizer; `changes` override configuration fields."""
    fields = BERT_FIELDS if masked else {}
    model = toy_model(**(fields | {"n_ctx": 64, "d_vocab": len(SPECIAL) + len(WORDS)} | changes))
    model.tokenizer = word_tokenizer(masked=masked)
    return model
