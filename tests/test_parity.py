"""Our logits against Hugging Face eager and TransformerLens' bridge, through the loading code users run.

TransformerLens 4.3 has no DistilBERT adapter, so the bridge is compared on the other families.
"""

from pathlib import Path

import hf_models
import pytest
import torch
from hf_models import FAMILIES, VOCAB
from transformer_lens.model_bridge import TransformerBridge

from lens_utils import hook_names
from lens_utils.checkpoints import load_folder

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def random_tokens(batch: int, pos: int) -> torch.Tensor:
    """Seeded random tokens; 30 positions are six windows of the local layer."""
    return torch.randint(1, VOCAB, (batch, pos), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("family", list(FAMILIES))
@torch.no_grad()
def test_logits_equal_hugging_face_eager(
    family: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == torch.float64:
        hf_models.keep_float64_in_gpt_neo(monkeypatch)
    reference = FAMILIES[family]()
    reference.save_pretrained(tmp_path)
    model = load_folder(tmp_path, dtype=dtype)
    tokens = random_tokens(2, 30)
    expected = reference.to(dtype)(tokens).logits
    assert expected.std() > 0.1
    assert (model(tokens) - expected).abs().max() < TOLERANCE[dtype]
    explicit, cache = model.run_with_cache(tokens)
    assert (explicit - expected).abs().max() < TOLERANCE[dtype]
    attentions = reference(tokens, output_attentions=True).attentions
    for layer, attention in enumerate(attentions):
        assert (cache[hook_names.pattern(layer)] - attention).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@torch.no_grad()
def test_bert_with_padding_and_two_segments(dtype: torch.dtype, tmp_path: Path) -> None:
    reference = FAMILIES["bert"]()
    reference.save_pretrained(tmp_path)
    model = load_folder(tmp_path, dtype=dtype)
    tokens = random_tokens(3, 12)
    mask = torch.ones_like(tokens)
    mask[1, 9:], mask[2, 5:] = 0, 0
    types = torch.zeros_like(tokens)
    types[0, 4:], types[1, 6:9] = 1, 1
    expected = reference.to(dtype)(tokens, attention_mask=mask, token_type_ids=types).logits
    ours = model(tokens, attention_mask=mask, token_type_ids=types)
    real = mask.bool()
    assert (ours - expected)[real].abs().max() < TOLERANCE[dtype]
    assert (model(tokens, token_type_ids=types) - expected)[real].abs().max() > 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gpt_neo", "gpt2", "bert"])
@torch.no_grad()
def test_logits_equal_the_transformer_lens_bridge(family: str, tmp_path: Path) -> None:
    reference = FAMILIES[family]().float()
    reference.save_pretrained(tmp_path)
    model = load_folder(tmp_path)
    bridge = TransformerBridge.boot_transformers(
        str(tmp_path), hf_model=reference, tokenizer=None, device="cpu", dtype=torch.float32
    )
    tokens = random_tokens(2, 30)
    assert (model(tokens) - bridge(tokens)).abs().max() < 1e-4
