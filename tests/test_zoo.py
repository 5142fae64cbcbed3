"""The corpus generator, its tokenizer and the generated prompts."""

import random
import re
import subprocess
import sys

import pytest

from lens_utils.zoo import frames, words
from lens_utils.zoo.prompts import agreement_prompts, name_recipient_prompts, negation_prompts
from lens_utils.zoo.stories import stories
from lens_utils.zoo.tokenizer import SPECIAL, build_tokenizer, vocabulary
from lens_utils.zoo.world import Grammar, Person, World


@pytest.fixture(scope="module")
def texts():
    return list(stories(250, 3))


@pytest.fixture(scope="module")
def tokens():
    return vocabulary(sample=900)


@pytest.fixture(scope="module")
def causal(tokens):
    return build_tokenizer(tokens, masked=False, n_ctx=256)


@pytest.fixture(scope="module")
def masked(tokens):
    return build_tokenizer(tokens, masked=True, n_ctx=128, token_types=True)


def test_stories_module_does_not_import_torch():
    modules = "lens_utils.zoo.stories, lens_utils.zoo.prompts, lens_utils.zoo.train"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stories_are_seeded_and_the_splits_differ():
    assert list(stories(20, 5)) == list(stories(20, 5))
    assert list(stories(20, 5)) == list(stories(40, 5))[:20]
    assert list(stories(20, 5)) != list(stories(20, 6))
    assert not set(stories(60, 5)) & set(stories(200, 5, split="heldout"))


@pytest.mark.parametrize(("arguments", "message"), [({"split": "test"}, "'test'"), ({"n": -1}, "n is -1")])
def test_stories_name_a_bad_argument(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        list(stories(**{"n": 1, "seed": 0} | arguments))


def test_story_lengths(texts, causal):
    lengths = sorted(len(causal(text)["input_ids"]) for text in texts)
    short = sum(length < 100 for length in lengths) / len(lengths)
    assert 0.14 < short < 0.26
    long = [length for length in lengths if length >= 100]
    assert 150 < sum(long) / len(long) < 250
    assert sum(150 <= length <= 260 for length in long) > 0.75 * len(long)


def test_stories_read_as_clean_text(texts):
    for text in texts:
        assert not re.search(r"[{}\[\]<>|]|  | [.,!?]|\ba [aeio]", text), text
        assert text.count('"') % 2 == 0, text
        assert text[0].isupper() or text[0] == '"', text


def test_mood_is_consistent_until_something_changes_it():
    world = World(random.Random(0), [Person("Tom", True), Person("Lucy", False)], "park", Grammar())
    pair = ("happy", "sad")
    first = world.trait(world.people[0], pair)
    assert all(world.trait(world.people[0], pair) == first for _ in range(20))
    world.feel(world.people[0], "sad")
    assert world.trait(world.people[0], pair) == "sad"


def test_negated_and_affirmed_frames_are_about_as_frequent(texts):
    joined = " ".join(texts)
    pairs = {each: other for a, b in words.PERSON_ANTONYMS for each, other in ((a, b), (b, a))}
    found = re.findall(r"[A-Z][a-z]+ was (not )?([a-z]+)\. (?:He|She) was ([a-z]+)", joined)
    found = [each for each in found if each[1] in pairs]
    negated = [each for each in found if each[0]]
    assert 0.3 < len(negated) / len(found) < 0.7
    assert all(other != adjective for _, adjective, other in negated)
    assert sum(other == pairs[adjective] for no, adjective, other in found if not no) == 0


def test_heldout_names_and_frames_stay_out_of_the_task(texts):
    names = "|".join(words.HELDOUT_BOY_NAMES + words.HELDOUT_GIRL_NAMES)
    assert sum(bool(re.search(rf"\b({names})\b", text)) for text in texts) > 15
    assert not any(re.search(rf"\b({names}) was not (happy|brave|hungry)", text) for text in texts)
    for action in ("brought", "sent", "kept a"):
        assert not any(re.search(rf"\b{action} [a-z ]* (to|for) [A-Z]", text) for text in texts)
    assert not set(frames.OPENINGS) & set(frames.HELDOUT_OPENINGS)
    assert not set(frames.ACTIONS) & set(frames.HELDOUT_ACTIONS)
    assert len(frames.OPENINGS) * len(frames.ACTIONS) >= 40
    assert len(frames.HELDOUT_OPENINGS) * len(frames.HELDOUT_ACTIONS) >= 10


def test_template_errors_name_the_template():
    world = World(random.Random(0), [Person("Tom", True), Person("Lucy", False)], "park", Grammar())
    with pytest.raises(ValueError, match=r"brackets"):
        world.say("a [b|c")
    with pytest.raises(ValueError, match=r"unknown word list <toe>; known: .*toy"):
        world.say("a <toe>")


def test_every_corpus_word_is_one_token(texts, causal, tokens):
    assert len(tokens) == len(set(tokens)) < 1700
    assert len([token for token in tokens if re.fullmatch(r"[A-Za-z']{2,}", token)]) > 1100
    nonce = 0
    for text in texts:
        ids = causal(text)["input_ids"]
        assert causal.unk_token_id not in ids
        split = {causal.decode([i]) for i in ids if tokens[i].startswith("##")}
        nonce += bool(split)
    assert nonce < 0.6 * len(texts)
    pieces = ["Tom", "can't", "see", "Lucy", "'s", "ball", "."]
    assert causal.convert_ids_to_tokens(causal("Tom can't see Lucy's ball.")["input_ids"]) == pieces


def test_decoding_gives_the_text_back(texts, causal, masked):
    for text in texts[:200]:
        assert causal.decode(causal(text)["input_ids"]) == text
        assert masked.decode(masked(text)["input_ids"], skip_special_tokens=True) == text
    said = "Lucy asks Tom: \"I can't find it\". Tom says: \"Don't worry, it's Mom's!\""
    assert causal.decode(causal(said)["input_ids"]) == said


def test_unknown_words_become_characters(causal):
    assert causal.unk_token_id not in causal("I couldn't do it, they'd won't")["input_ids"]
    assert causal.decode(causal("You couldn't, so Tom won't.")["input_ids"]) == "You couldn't, so Tom won't."
    assert causal.tokenize("Zyx qwv") == ["Z", "##y", "##x", "q", "##w", "##v"]
    assert causal.tokenize("42") == ["4", "2"]


def test_special_tokens(causal, masked):
    assert causal.convert_tokens_to_ids(list(SPECIAL)) == list(range(len(SPECIAL)))
    assert causal.bos_token == causal.eos_token == "<|endoftext|>"
    assert causal("Tom")["input_ids"] == [causal.convert_tokens_to_ids("Tom")]
    ids = masked("Tom was [MASK].", "He")
    assert masked.convert_ids_to_tokens(ids["input_ids"]) == [
        "[CLS]",
        "Tom",
        "was",
        "[MASK]",
        ".",
        "[SEP]",
        "He",
        "[SEP]",
    ]
    assert ids["token_type_ids"] == [0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("names", ["train", "heldout"])
@pytest.mark.parametrize("frames_part", ["train", "heldout"])
def test_name_recipient_prompts(names, frames_part, causal):
    prompts = name_recipient_prompts(100, 0, frames=frames_part, names=names)
    pool = (
        words.BOY_NAMES + words.GIRL_NAMES if names == "train" else words.HELDOUT_BOY_NAMES + words.HELDOUT_GIRL_NAMES
    )
    for each in prompts:
        assert each.io in pool
        assert each.subject in pool
        assert each.io != each.subject
        seen = re.findall(rf"\b({each.io}|{each.subject})\b", each.prompt)
        assert seen == ([each.io, each.subject] if each.order == "io first" else [each.subject, each.io]) + [
            each.subject
        ]
        assert causal.unk_token_id not in causal(each.prompt)["input_ids"]
        assert len(causal.tokenize(each.io)) == 1
    assert sum(each.order == "io first" for each in prompts) == 50
    assert prompts == name_recipient_prompts(100, 0, frames=frames_part, names=names)
    if frames_part == "heldout":
        assert {each.opening for each in prompts} <= set(frames.HELDOUT_OPENINGS)


def test_prompt_generators_name_a_bad_argument():
    with pytest.raises((ValueError, TypeError), match=r"'some'"):
        name_recipient_prompts(1, 0, frames="some")  # type: ignore[arg-type]


def test_negation_prompts():
    prompts = negation_prompts(("happy", "sad"))
    assert len(prompts) == 2 * len(words.HELDOUT_BOY_NAMES + words.HELDOUT_GIRL_NAMES)
    assert prompts[0].affirmed == "Oscar was happy. He was"
    assert prompts[0].negated == "Oscar was not happy. He was"
    assert {(each.adjective, each.antonym) for each in prompts} == {("happy", "sad"), ("sad", "happy")}


def test_agreement_prompts_are_not_in_the_corpus(texts):
    prompts = agreement_prompts(60, 0)
    joined = " ".join(texts)
    assert not any(each.prompt in joined for each in prompts)
    assert sum(each.plural for each in prompts) == 30
    assert all(each.right in ("were", "are", "have") for each in prompts if each.plural)
