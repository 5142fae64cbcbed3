"""Weight processing keeps log-probabilities, does what it says to the weights, and refuses what it would break."""

import pytest
import torch
from conftest import ARCHITECTURES, random_tokens, toy_model

from lens_utils import hook_names
from lens_utils.hooked_transformer import HookedTransformer, processing
from lens_utils.hooked_transformer.processing import fold

FOLDABLE = [name for name in ARCHITECTURES if name not in ("bert", "shortformer")]
SQUARE = {"d_mlp": 16, "d_vocab": 16}


def log_probs(model: HookedTransformer) -> torch.Tensor:
    """Log-probabilities on random tokens."""
    with torch.no_grad():
        return model(random_tokens(d_vocab=model.cfg.d_vocab)).log_softmax(-1)


@pytest.mark.parametrize("name", FOLDABLE)
def test_folding_keeps_log_probabilities(name: str) -> None:
    model = toy_model(**ARCHITECTURES[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold(model)
    assert (log_probs(folded) - log_probs(model)).abs().max() < 1e-4
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if model.cfg.normalization_type is not None:
        assert folded.cfg.normalization_type == "LNPre"


def test_folding_keeps_log_probabilities_where_widths_coincide() -> None:
    """d_mlp == d_model == d_vocab: an axis guessed from its length would be the wrong one."""
    model = toy_model(**SQUARE)
    folded = fold(model)
    assert (log_probs(folded) - log_probs(model)).abs().max() < 1e-4
    exact = toy_model(dtype=torch.float64, **SQUARE)
    assert (log_probs(fold(exact)) - log_probs(exact)).abs().max() < 1e-12


@torch.no_grad()
def test_folded_weights_are_centred_and_value_biases_gone() -> None:
    model, tokens = fold(toy_model(dtype=torch.float64)), random_tokens()
    for name in ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out"):
        assert getattr(model, name).mean(-1).abs().max() < 1e-12, name
    for name in ("W_Q", "W_K", "W_V", "W_in"):
        assert getattr(model, name).mean(-2).abs().max() < 1e-12, name
    assert model.W_U.mean(-1).abs().max() < 1e-12
    assert model.b_V.abs().max() == 0
    _, cache = model.run_with_cache(tokens)
    assert cache[hook_names.resid_post(1)].mean(-1).abs().max() < 1e-12


@torch.no_grad()
def test_direct_logit_attribution_of_a_folded_model_sums_to_the_logit() -> None:
    model, tokens = fold(toy_model(dtype=torch.float64)), random_tokens()
    logits, cache = model.run_with_cache(tokens)
    parts = cache.get_full_resid_decomposition(expand_neurons=False, apply_ln=True)
    assert (parts.sum(0) @ model.W_U + model.b_U - logits).abs().max() < 1e-10


def test_post_norm_and_shortformer_with_gains_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="post-norm"):
        fold(toy_model(**ARCHITECTURES["bert"]))
    shortformer = toy_model(dtype=torch.float64, **ARCHITECTURES["shortformer"])
    with pytest.raises(ValueError, match="shortformer"):
        fold(shortformer)
    with torch.no_grad():
        for block in shortformer.blocks:
            block.ln1.w.fill_(1)
    assert (log_probs(fold(shortformer)) - log_probs(shortformer)).abs().max() < 1e-12


def test_a_fold_that_changes_the_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fold_into = processing._fold_into

    def forgets_the_bias(ln: torch.nn.Module, weight: torch.Tensor, bias: torch.Tensor, *, centre: bool = True) -> None:
        fold_into(ln, weight, bias.clone(), centre=centre)

    monkeypatch.setattr(processing, "_fold_into", forgets_the_bias)
    with pytest.raises(ValueError, match="changed a log-probability"):
        fold(toy_model())
