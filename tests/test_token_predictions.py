"""Log-probability, rank and likeliest tokens, of causal models and, one masked token at a time, of masked ones."""

import math

import pytest
import torch
from toy_text import reading_model

from lens_utils import token_predictions as module
from lens_utils.planted import BETA, PlantedModel, PlantedShape, induction_model, null_head
from lens_utils.prompts import LUCY_PROMPT, MOON_PROMPT, TokenizedText, tokenize_prompt
from lens_utils.token_predictions import (
    masked_copies,
    predicted_positions,
    prediction_identities,
    token_predictions,
)
from lens_utils.visible_text import running


def text_of(tokens: list[int], classes: str = "word") -> TokenizedText:
    names = tuple(map(str, tokens))
    return TokenizedText(0, " ".join(names), torch.tensor(tokens), names, (classes,) * len(tokens))


def test_causal_predictions_are_the_models_log_probabilities():
    model = reading_model()
    text = tokenize_prompt(model, LUCY_PROMPT)
    found = token_predictions(model, text, k=4)
    with torch.inference_mode():
        expected = model(text.tokens[None])[0, :-1].log_softmax(-1)
    assert found.positions == tuple(range(1, len(text)))
    torch.testing.assert_close(found.log_prob, expected[range(len(text) - 1), text.tokens[1:]])
    order = expected.argsort(-1, descending=True)
    assert torch.equal(found.top_tokens, order[:, :4])
    assert torch.equal(order.gather(1, found.rank[:, None])[:, 0], text.tokens[1:])
    assert all(check.holds for check in prediction_identities(model, text, found))


def test_planted_induction_predicts_the_second_copy_exactly():
    text = text_of([0, 1, 2, 3, 4, 1, 2, 3, 4])
    found = token_predictions(induction_model().build(), text, k=1)
    second = found.log_prob[-3:]
    assert second.tolist() == pytest.approx([-math.log(1 + 8 * math.exp(-BETA))] * 3, rel=1e-3)
    assert found.rank[-3:].tolist() == [0, 0, 0]
    assert found.top_tokens[-3:, 0].tolist() == [2, 3, 4]


def test_rank_counts_only_what_is_likelier():
    """All logits equal: no token is likelier than another."""
    model = PlantedModel(PlantedShape(9, 17), ((null_head(),),)).build()
    found = token_predictions(model, text_of([0, 1, 2, 3]), k=3)
    assert found.rank.tolist() == [0, 0, 0]
    assert found.log_prob.tolist() == pytest.approx([-math.log(9)] * 3)


@pytest.mark.parametrize("at_once", [1, 40, 10_000])
def test_masked_predictions_ask_one_token_at_a_time(monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", at_once)
    model = reading_model(masked=True)
    text = tokenize_prompt(model, MOON_PROMPT)
    found = token_predictions(model, text, k=2)
    assert found.positions == tuple(range(1, len(text) - 1)), "not [CLS] and [SEP]"
    for index, pos in enumerate(found.positions):
        tokens = text.tokens.clone()
        tokens[pos] = model.tokenizer.mask_token_id
        with torch.inference_mode():
            expected = model(tokens[None])[0, pos].log_softmax(-1)
        assert float(found.log_prob[index]) == pytest.approx(float(expected[text.tokens[pos]]), abs=1e-5)
        assert int(found.top_tokens[index, 0]) == int(expected.argmax())
    assert all(check.holds for check in prediction_identities(model, text, found))


def test_a_masked_token_cannot_be_seen():
    """Another token in its place changes what is asked of it, not what the model says there."""
    model = reading_model(masked=True)
    one = tokenize_prompt(model, "Tom was happy")
    other = tokenize_prompt(model, "Tom was sad")
    first, second = token_predictions(model, one), token_predictions(model, other)
    torch.testing.assert_close(first.top_log_probs[2], second.top_log_probs[2])
    assert not torch.allclose(first.top_log_probs[0], second.top_log_probs[0])


def test_masked_copies_hide_one_token_each():
    model = reading_model(masked=True)
    text = tokenize_prompt(model, "Tom was happy")
    copies = masked_copies(model, text, torch.tensor([1, 3]))
    changed = copies != text.tokens
    assert changed.nonzero().tolist() == [[0, 1], [1, 3]]
    assert (copies[changed] == model.tokenizer.mask_token_id).all()


@pytest.mark.parametrize(("masked", "bos"), [(False, False), (True, False)])
def test_where_nothing_is_predicted_all_is_empty(masked: bool, bos: bool):
    model = reading_model(masked=masked)
    text = tokenize_prompt(model, "[SEP]" if masked else "Tom", prepend_bos=bos)
    found = token_predictions(model, text, k=3)
    assert found.positions == ()
    assert found.top_tokens.shape == found.top_log_probs.shape == (0, 3)
    assert prediction_identities(model, text, found) == ()


def test_more_alternatives_than_tokens_are_all_tokens():
    model = induction_model().build()
    assert token_predictions(model, text_of([0, 1]), k=100).top_tokens.shape == (1, 9)


def test_identities_notice_a_wrong_number():
    for masked in (False, True):
        model = reading_model(masked=masked)
        text = tokenize_prompt(model, "Tom was happy")
        found = token_predictions(model, text)
        found.log_prob.add_(0.01)
        assert not any(check.holds for check in prediction_identities(model, text, found))


def test_words_without_spaces_are_shown_with_them():
    assert running(["Tom", "ran", ".", "He"]) == [" Tom", " ran", ".", " He"]
    assert running(["Tom", " ran", "."]) == ["Tom", " ran", "."]


def test_bad_input_is_refused():
    model = reading_model()
    text = tokenize_prompt(model, "Tom was happy")
    with pytest.raises(ValueError, match="k=0: must be at least 1"):
        token_predictions(model, text, k=0)
    model = reading_model(masked=True)
    model.tokenizer.mask_token = None
    with pytest.raises(ValueError, match="'toy': its tokenizer has no mask token"):
        predicted_positions(model, text)
