"""Weighted attention by each of its three definitions, and token predictions, against the plain formula."""

import pytest
import torch
from toy_text import reading_model

from lens_utils import hook_names
from lens_utils.activations import cache_hooks
from lens_utils.planted import PlantedHead, PlantedModel, PlantedShape, Rule
from lens_utils.prompts import TokenizedText, tokenize_prompt
from lens_utils.token_predictions import token_predictions
from lens_utils.visible_text import running
from lens_utils.weighted_attention import attention_hooks, share_on, weighted_attention

PROMPT = "Tom was not happy . He was sad"


@pytest.mark.parametrize("masked", [False, True])
def test_every_definition_entry_by_entry(masked: bool) -> None:
    model = reading_model(masked=masked, n_layers=2)
    text = tokenize_prompt(model, PROMPT)
    found, identities = weighted_attention(model, text)
    assert all(identity.holds for identity in identities)
    cache = cache_hooks(model, [text], attention_hooks(model)).cache
    for layer, head, query, key in ((0, 0, 3, 1), (1, 1, 6, 6), (1, 0, 7, 0)):
        weight = cache[hook_names.pattern(layer)][0, head, query, key]
        value = cache[hook_names.v(layer)][0, key, head]
        at = (layer, head, query, key)
        assert torch.allclose(found.pattern[at], weight)
        assert torch.allclose(found.value_norm_weighted[at], weight * value.norm(), atol=1e-6)
        assert torch.allclose(
            found.norm_weighted[at], (weight * (value @ model.W_O[layer, head].detach())).norm(), atol=1e-6
        )
        assert torch.allclose(
            found.attention_times_value[layer, head, query], cache[hook_names.z(layer)][0, query, head]
        )


def test_the_definitions_differ_where_values_do() -> None:
    """A uniform head that moves one token only: raw attention is even, weighted attention lies on that token."""
    shape = PlantedShape(6, 5)
    outputs = torch.zeros(6, 6)
    outputs[3, 2] = 2.0
    model = PlantedModel(shape, ((PlantedHead(ov=(Rule("T", "O", outputs),), sink=0.0),),)).build()
    tokens = torch.tensor([0, 3, 1, 4])
    strings = tuple(map(str, tokens.tolist()))
    found, _ = weighted_attention(model, TokenizedText(0, " ".join(strings), tokens, strings, ("word",) * 4))
    assert torch.allclose(found.pattern[0, 0, 3], torch.full((4,), 0.25))
    assert torch.allclose(found.norm_weighted[0, 0, 3], torch.tensor([0.0, 0.5, 0.0, 0.0]), atol=1e-6)
    assert share_on(found.norm_weighted[:, :, 1:], [1])[0, 0].item() == pytest.approx(1)
    assert share_on(found.pattern[:, :, 3:], [1])[0, 0].item() == pytest.approx(0.25)


def test_causal_predictions_are_the_models() -> None:
    model = reading_model()
    text = tokenize_prompt(model, PROMPT)
    found = token_predictions(model, text, k=3)
    with torch.inference_mode():
        logits = model(text.tokens[None])[0].log_softmax(-1)
        loss = model(text.tokens[None], return_type="loss")
    assert found.positions == tuple(range(1, len(text)))
    assert -found.log_prob.mean().item() == pytest.approx(float(loss), abs=1e-5)
    for index, pos in enumerate(found.positions):
        row = logits[pos - 1]
        assert found.rank[index] == (row > row[text.tokens[pos]]).sum()
        assert found.top_tokens[index, 0] == row.argmax()


def test_masked_predictions_do_not_see_the_token() -> None:
    model = reading_model(masked=True)
    text = tokenize_prompt(model, PROMPT)
    found = token_predictions(model, text)
    assert found.positions == tuple(range(1, len(text) - 1))
    rows = text.tokens.clone()
    rows[4] = model.tokenizer.mask_token_id
    with torch.inference_mode():
        expected = model(rows[None])[0, 4].log_softmax(-1)
    assert found.log_prob[3].item() == pytest.approx(expected[text.tokens[4]].item(), abs=1e-5)


def test_running_text() -> None:
    assert running(["Tom", "ran", ".", "He"]) == [" Tom", " ran", ".", " He"]
    assert running(["Tom", " ran", "."]) == ["Tom", " ran", "."]


def test_bad_input() -> None:
    model = reading_model(n_layers=0)
    with pytest.raises(ValueError, match="no attention layer"):
        weighted_attention(model, tokenize_prompt(model, PROMPT))
    whole = reading_model()
    text = tokenize_prompt(whole, "Tom", prepend_bos=False)
    with pytest.raises(ValueError, match="no token to predict"):
        token_predictions(whole, text)
    masked = reading_model(masked=True)
    marks_only = TokenizedText(0, "", torch.tensor([2, 3]), ("[CLS]", "[SEP]"), ("special", "special"))
    with pytest.raises(ValueError, match="no token to predict"):
        token_predictions(masked, marks_only)
    masked.tokenizer.mask_token = None
    with pytest.raises(ValueError, match="no mask token"):
        token_predictions(masked, tokenize_prompt(masked, PROMPT))
