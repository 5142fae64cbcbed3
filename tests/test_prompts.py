"""Word classes follow their stated rules; prompts are checked before use; files are read lazily."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_text import reading_model

from lens_utils import prompts
from lens_utils.prompts import (
    CONTRAST_PROMPTS,
    LUCY_PROMPT,
    MOON_PROMPT,
    length_batches,
    read_texts,
    tokenize_corpus,
    tokenize_prompt,
    tokenize_prompts,
)
from lens_utils.word_classes import WORD_CLASSES, bare_word, word_classes


@pytest.fixture(scope="module")
def model():
    return reading_model()


class TestWordClasses:
    def test_a_sentence_of_whole_words(self):
        text = "Jack and Lily liked to watch the 3 moons very quietly because it was big ."
        assert " ".join(word_classes(text.split())) == (
            "name conjunction name verb preposition verb determiner number word adverb adverb conjunction pronoun"
            " auxiliary word punctuation"
        )

    def test_special_tokens_come_first(self):
        assert word_classes(["[CLS]", "the", "[SEP]"], {"[CLS]", "[SEP]"}) == ("special", "determiner", "special")

    def test_a_capital_names_only_inside_a_sentence(self):
        tokens = ["Birds", "saw", "Zork", ".", "Birds", "'", "Birds"]
        classes = word_classes(tokens)
        assert [classes[i] for i in (0, 2, 4)] == ["word", "name", "word"]

    def test_pieces_of_wordpiece_and_of_spaced_tokenizers(self):
        assert word_classes(["moon", "##light"])[1] == "piece"
        assert word_classes(["The", " moon", "light", " ,", " it"]) == (
            "determiner", "word", "piece", "punctuation", "pronoun",
        )  # fmt: skip
        assert word_classes(["Don", "'t", "\u0120go"])[1:] == ("auxiliary", "verb")

    def test_marks_are_stripped(self):
        assert [bare_word(token) for token in (" moon", "\u0120moon", "\u2581moon", "##moon", "moon")] == ["moon"] * 5

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text(max_size=8), max_size=12))
    def test_every_token_has_one_known_class(self, tokens):
        classes = word_classes(tokens, {"[CLS]"})
        assert len(classes) == len(tokens)
        assert set(classes) <= set(WORD_CLASSES)


class TestTokenizedText:
    def test_holds_tokens_strings_and_classes(self, model):
        text = tokenize_prompt(model, MOON_PROMPT, index=3)
        assert (text.index, len(text)) == (3, text.tokens.numel())
        assert text.strings[0] == "<bos>"
        assert text.classes[:3] == ("special", "name", "conjunction")
        assert text.context(3, before=2, after=1) == "Jack and «Lily» liked"

    def test_beginning_of_text_on_and_off(self, model):
        on, off = (tokenize_prompt(model, LUCY_PROMPT, prepend_bos=flag) for flag in (True, False))
        assert on.strings[1:] == off.strings
        assert off.strings[0] == "One"

    @pytest.mark.parametrize("empty", ["", "  \n"])
    def test_an_empty_prompt_is_named(self, model, empty):
        with pytest.raises(ValueError, match="prompt 1 is empty"):
            tokenize_prompts(model, ["Tom", empty])

    def test_no_prompt_at_all(self, model):
        with pytest.raises(ValueError, match="at least one"):
            tokenize_prompts(model, [])

    def test_a_prompt_too_long_names_itself_and_both_lengths(self, model):
        with pytest.raises(ValueError, match=r"prompt 0 \('moon moon.*'\) has 101 tokens.*holds 64.*by 37 tokens"):
            tokenize_prompts(model, ["moon " * 100])

    def test_the_named_prompts_differ(self):
        assert len({MOON_PROMPT, *CONTRAST_PROMPTS}) == 4


class TestBatches:
    def test_nothing_is_lost_and_batches_hold_similar_lengths(self, model):
        texts = tokenize_prompts(model, ["moon " * n for n in (1, 9, 2, 8, 3, 7)])
        batches = list(length_batches(texts, max_tokens=20))
        assert sorted(text.index for batch in batches for text in batch) == list(range(6))
        assert all(len(batch) * max(map(len, batch)) <= 20 for batch in batches)
        assert [max(map(len, batch)) for batch in batches] == [4, 9, 10]

    def test_reads_only_its_window_ahead(self, model):
        text = tokenize_prompt(model, "moon")
        taken = itertools.count()
        stream = (text for _ in iter(lambda: next(taken), 10_000))
        next(length_batches(stream, max_tokens=1000, window=5))
        assert next(taken) == 5

    def test_a_long_text_goes_alone(self, model):
        texts = tokenize_prompts(model, ["moon " * 30, "moon"])
        assert [len(batch) for batch in length_batches(texts, max_tokens=4)] == [1, 1]

    def test_bad_sizes(self):
        with pytest.raises(ValueError, match="max_tokens=0"):
            next(length_batches([], max_tokens=0))


class TestFiles:
    def test_paragraphs_and_lines(self, tmp_path):
        path = tmp_path / "stories.txt"
        path.write_text("\n\nTom ran.\nHe fell.\n\n \nLily sat.\n", encoding="utf-8")
        assert list(read_texts(path)) == ["Tom ran. He fell.", "Lily sat."]
        assert list(read_texts(path, unit="line")) == ["Tom ran.", "He fell.", "Lily sat."]

    def test_missing_folder_and_empty_are_refused_at_once(self, tmp_path):
        with pytest.raises(ValueError, match="not found"):
            read_texts(tmp_path / "absent.txt")
        with pytest.raises(ValueError, match="folder"):
            read_texts(tmp_path)
        (tmp_path / "empty.txt").write_text(" \n\n")
        with pytest.raises(ValueError, match="holds no text"):
            read_texts(tmp_path / "empty.txt")

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00 moon")
        with pytest.raises(ValueError, match="not UTF-8"):
            list(read_texts(tmp_path / "bytes.txt"))

    def test_an_endless_paragraph(self, tmp_path, monkeypatch):
        monkeypatch.setattr(prompts, "_LONGEST_PARAGRAPH", 50)
        (tmp_path / "lines.txt").write_text("one text a line\n" * 10)
        with pytest.raises(ValueError, match="by lines"):
            list(read_texts(tmp_path / "lines.txt"))
        assert len(list(read_texts(tmp_path / "lines.txt", unit="line"))) == 10

    def test_long_texts_are_cut_between_words_and_lose_nothing(self, model):
        words = ["moon", "Lily", "Tom"] * 50
        parts = list(tokenize_corpus(model, [" ".join(words), "Tom"]))
        assert max(map(len, parts)) <= 64
        assert [part.index for part in parts] == list(range(len(parts)))
        assert all(part.strings[0] == "<bos>" for part in parts)
        assert [word for part in parts for word in part.strings[1:]] == [*words, "Tom"]

    def test_a_single_word_beyond_the_context_is_an_error(self, model):
        with pytest.raises(ValueError, match="holds 64"):
            list(tokenize_corpus(model, ["." * 100]))
