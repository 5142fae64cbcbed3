"""Every checkpoint format, from folders made here; the reference is the Hugging Face model that was saved."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
import safetensors.torch
import tokenizers
import torch
import transformers
from conftest import random_tokens, toy_model
from hf_models import CONTEXT, FAMILIES, VOCAB

from lens_utils.checkpoints import CheckpointError, load_folder
from lens_utils.checkpoints.config_file import ConfigFile
from lens_utils.checkpoints.folder import detect_format
from lens_utils.hooked_transformer import HookedTransformer

TOKENS = random_tokens(2, 9, VOCAB)
TOY_TOKENS = random_tokens()
MAX_DIFFERENCE = 1e-4
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tom", "was", "not", "happy", "."]


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Each Hugging Face architecture in turn."""
    return request.param


@pytest.fixture(autouse=True)
def quiet() -> None:
    """No progress bars from saving."""
    transformers.utils.logging.disable_progress_bar()


def saved(family: str, folder: Path, **options: object) -> transformers.PreTrainedModel:
    """A small model, saved as Hugging Face saves it."""
    model = FAMILIES[family]().float()
    model.save_pretrained(folder, **options)
    return model


def edit_config(folder: Path, **changes: object) -> None:
    """Change fields of a saved configuration; None removes one."""
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def edit_weights(folder: Path, edit: object) -> None:
    """Rewrite the saved weights through `edit(dict) -> dict`."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file(edit(tensors), folder / "model.safetensors")


def assert_same_logits(model: HookedTransformer, reference: transformers.PreTrainedModel) -> None:
    """The loaded model computes what the reference does, on logits far from constant."""
    with torch.no_grad():
        expected = reference(TOKENS).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(model(TOKENS), expected, atol=MAX_DIFFERENCE, rtol=0)


def test_hugging_face_folder(family: str, tmp_path: Path) -> None:
    reference = saved(family, tmp_path)
    model = load_folder(tmp_path)
    assert_same_logits(model, reference)
    assert not model.training
    assert model.tokenizer is None
    with pytest.raises(ValueError, match="no tokenizer"):
        model("Tom was happy.")


def test_dtype(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    exact, single = load_folder(tmp_path, dtype=torch.float64), load_folder(tmp_path)
    assert {parameter.dtype for parameter in exact.parameters()} == {torch.float64}
    assert exact.cfg.dtype == torch.float64
    torch.testing.assert_close(exact(TOKENS).float(), single(TOKENS), atol=MAX_DIFFERENCE, rtol=0)


def test_half_precision_files_are_computed_in_the_dtype_asked_for(family: str, tmp_path: Path) -> None:
    reference = FAMILIES[family]().half()
    reference.save_pretrained(tmp_path)
    model = load_folder(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert_same_logits(model, reference.float())


def test_sharded_files(family: str, tmp_path: Path) -> None:
    reference = saved(family, tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert_same_logits(load_folder(tmp_path), reference)
    shards[0].unlink()
    with pytest.raises(CheckpointError, match=rf"index.json: shard '{shards[0].name}' is missing"):
        load_folder(tmp_path)


def test_pytorch_file_with_buffers_of_older_versions(family: str, tmp_path: Path) -> None:
    """pytorch_model.bin as older versions wrote it: attention masks and position ids beside the weights."""
    reference = saved(family, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    buffers = {
        "gpt_neo": ["transformer.h.0.attn.attention.bias", "transformer.h.1.attn.attention.masked_bias"],
        "gpt2": ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"],
        "bert": ["bert.embeddings.position_ids"],
        "distilbert": ["distilbert.embeddings.position_ids"],
    }[family]
    state = reference.state_dict() | {key: torch.ones(1, CONTEXT, dtype=torch.uint8) for key in buffers}
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_same_logits(load_folder(tmp_path), reference)


def test_safetensors_are_preferred_to_a_pytorch_file(tmp_path: Path) -> None:
    reference = saved("gpt2", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    assert_same_logits(load_folder(tmp_path), reference)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo"])
def test_weights_without_the_transformer_prefix(family: str, tmp_path: Path) -> None:
    """The hub's gpt2 was saved from the model without its head, so its keys have no prefix."""
    reference = saved(family, tmp_path)
    edit_weights(tmp_path, lambda tensors: {key.removeprefix("transformer."): w for key, w in tensors.items()})
    assert_same_logits(load_folder(tmp_path), reference)


@pytest.mark.parametrize(
    ("family", "key"),
    [("gpt2", "lm_head.weight"), ("gpt_neo", "lm_head.weight"), ("distilbert", "vocab_projector.weight")],
)
def test_unembedding_of_its_own(family: str, key: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    own = torch.randn(VOCAB, 24, generator=torch.Generator().manual_seed(5))
    edit_weights(tmp_path, lambda tensors: tensors | {key: own})
    torch.testing.assert_close(load_folder(tmp_path).W_U.detach(), own.T)
    edit_weights(tmp_path, lambda tensors: {name: w for name, w in tensors.items() if name != key})
    edit_config(tmp_path, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=f"key '{key}' is missing"):
        load_folder(tmp_path)


def test_gpt_neo_configuration(tmp_path: Path) -> None:
    saved("gpt_neo", tmp_path)
    cfg = load_folder(tmp_path).cfg
    assert (cfg.use_attn_scale, cfg.score_divisor) == (False, 1.0)
    assert (cfg.use_local_attn, cfg.attn_types, cfg.window_size) == (True, ("global", "local"), 5)
    edit_config(tmp_path, attention_layers=None)
    assert load_folder(tmp_path).cfg.attn_types == ("global", "local")
    edit_config(tmp_path, attention_types=[[["global"], 2]])
    assert not load_folder(tmp_path).cfg.use_local_attn
    edit_config(tmp_path, attention_types=[[["global"], 3]])
    with pytest.raises(CheckpointError, match=r"attention_types=.*for each of 2 layers"):
        load_folder(tmp_path)


def test_gpt2_without_attention_scale(tmp_path: Path) -> None:
    model = FAMILIES["gpt2"]().float()
    config = transformers.GPT2Config.from_dict(model.config.to_dict() | {"scale_attn_weights": False})
    config._attn_implementation = "eager"
    unscaled = transformers.GPT2LMHeadModel(config).eval()
    unscaled.load_state_dict(model.state_dict())
    unscaled.save_pretrained(tmp_path)
    assert_same_logits(load_folder(tmp_path), unscaled)


def test_bert_segments_and_padding(tmp_path: Path) -> None:
    reference = saved("bert", tmp_path)
    model = load_folder(tmp_path)
    types = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]] * 2)
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    with torch.no_grad():
        expected = reference(TOKENS, attention_mask=mask, token_type_ids=types).logits
        found = model(TOKENS, attention_mask=mask, token_type_ids=types)
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=MAX_DIFFERENCE, rtol=0)


def old_bert(folder: Path) -> transformers.PreTrainedModel:
    """A folder like the first BERT checkpoints: gamma and beta, both heads, no model_type, a bare vocabulary."""
    config = transformers.BertConfig.from_dict(FAMILIES["bert"]().config.to_dict() | {"vocab_size": len(WORDS)})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.BertForPreTraining(config).eval()
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {}
    for key, tensor in model.state_dict().items():
        tensor.add_(0.3 * torch.randn(tensor.shape) if tensor.is_floating_point() else 0)
        for new, old in names.items():
            key = key.replace(new, old)
        state[key] = tensor
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    values = {field: getattr(config, field) for field in (*fields, "vocab_size", "type_vocab_size")}
    (folder / "config.json").write_text(json.dumps(values | {"max_position_embeddings": CONTEXT}))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return model


def test_first_bert_checkpoints(tmp_path: Path) -> None:
    reference = old_bert(tmp_path)
    model = load_folder(tmp_path)
    tokens = model.to_tokens("Tom was [MASK] happy.")
    assert [WORDS[token] for token in tokens[0]] == ["[CLS]", "tom", "was", "[MASK]", "happy", ".", "[SEP]"]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), reference(tokens).prediction_logits, atol=MAX_DIFFERENCE, rtol=0)


@pytest.mark.parametrize(
    ("family", "head"), [("bert", "cls.predictions"), ("distilbert", "vocab_")], ids=["bert", "distilbert"]
)
def test_masked_model_without_its_head_is_refused(family: str, head: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    edit_weights(tmp_path, lambda tensors: {key: w for key, w in tensors.items() if not key.startswith(head)})
    with pytest.raises(CheckpointError, match="no masked-language-model head"):
        load_folder(tmp_path)


def test_detection_from_architectures_alone(family: str, tmp_path: Path) -> None:
    reference = saved(family, tmp_path)
    edit_config(tmp_path, model_type=None)
    assert detect_format(ConfigFile.read(tmp_path), tmp_path) == family
    assert_same_logits(load_folder(tmp_path), reference)


def legacy_folder(folder: Path, file: str = "toy_final.pth", **changes: object) -> HookedTransformer:
    """A folder like the legacy TransformerLens repositories': training configuration, float16, mask buffers."""
    model = toy_model(attn_only=True, d_mlp=None, act_fn=None, **changes)
    state = {key: tensor.half() for key, tensor in model.state_dict().items()}
    model.load_state_dict(state)
    for layer in range(2):
        state[f"blocks.{layer}.attn.mask"] = torch.ones(24, 24, dtype=torch.bool).tril()
        state[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(-1e5)
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / file)
    cfg = model.cfg
    values = {"n_layers": 2, "d_model": 16, "n_ctx": 24, "d_head": 5, "n_heads": 3, "d_vocab": 29, "attn_only": True,
              "d_mlp": 64, "act_fn": "solu_ln", "normalization": cfg.normalization_type, "tokenizer_name": None,
              "shortformer_pos": cfg.positional_embedding_type == "shortformer", "lr": 1e-3}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(values))
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"normalization_type": None, "positional_embedding_type": "shortformer"},
        {"normalization_type": "LNPre"},
        {"normalization_type": "LN"},
    ],
    ids=["shortformer", "LNPre", "LN"],
)
def test_legacy_folder(changes: dict, tmp_path: Path) -> None:
    expected = legacy_folder(tmp_path, **changes)
    (tmp_path / "toy_100.pth").write_bytes(b"an earlier checkpoint, not read")
    model = load_folder(tmp_path)
    assert model.cfg.normalization_type == expected.cfg.normalization_type
    assert model.cfg.positional_embedding_type == expected.cfg.positional_embedding_type
    torch.testing.assert_close(model(TOY_TOKENS), expected(TOY_TOKENS))


def test_legacy_file_without_unembedding_bias(tmp_path: Path) -> None:
    legacy_folder(tmp_path)
    state = torch.load(tmp_path / "toy_final.pth", weights_only=True)
    torch.save({key: w for key, w in state.items() if key != "unembed.b_U"}, tmp_path / "toy_final.pth")
    model = load_folder(tmp_path)
    assert model.b_U.eq(0).all()
    torch.save({key: w for key, w in state.items() if key != "blocks.1.attn.b_O"}, tmp_path / "toy_final.pth")
    with pytest.raises(CheckpointError, match=r"key 'blocks.1.attn.b_O' is missing, expected shape \[16\]"):
        load_folder(tmp_path)


def test_configuration_given_beside_a_lone_weight_file(tmp_path: Path) -> None:
    """As for attn_only_2L_half, whose repository is one file."""
    expected = legacy_folder(tmp_path, "half.pth", normalization_type=None, positional_embedding_type="shortformer")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: not found"):
        load_folder(tmp_path)
    torch.testing.assert_close(load_folder(tmp_path, config=config)(TOY_TOKENS), expected(TOY_TOKENS))


def test_hooked_transformer_folder(architecture: dict, tmp_path: Path) -> None:
    expected = toy_model(**architecture)
    expected.save(tmp_path / "safe")
    torch.testing.assert_close(load_folder(tmp_path / "safe")(TOY_TOKENS), expected(TOY_TOKENS))


@pytest.mark.parametrize("file", ["weights.pt", "weights.pth", "final.pth", "weights.safetensors"])
def test_hooked_transformer_weight_files(file: str, tmp_path: Path) -> None:
    expected = toy_model()
    (tmp_path / "config.json").write_text(json.dumps(expected.cfg.to_dict()))
    if file.endswith("safetensors"):
        state = {key: tensor.contiguous() for key, tensor in expected.state_dict().items()}
        safetensors.torch.save_file(state, tmp_path / file)
    else:
        torch.save(expected.state_dict(), tmp_path / file)
    torch.testing.assert_close(load_folder(tmp_path)(TOY_TOKENS), expected(TOY_TOKENS))


def test_hooked_transformer_fields_of_transformer_lens(tmp_path: Path) -> None:
    """A configuration written by TransformerLens' own class has more fields, neutral ones."""
    expected = toy_model()
    expected.save(tmp_path)
    edit_config(tmp_path, d_vocab_out=29, init_mode="gpt2", final_rms=False, n_params=9, tokenizer_prepends_bos=True)
    torch.testing.assert_close(load_folder(tmp_path)(TOY_TOKENS), expected(TOY_TOKENS))
    edit_config(tmp_path, gated_mlp=True)
    with pytest.raises(CheckpointError, match=r"config\.json: gated_mlp=True is not supported"):
        load_folder(tmp_path)
    edit_config(tmp_path, gated_mlp=None, n_layer_s=2)
    with pytest.raises(CheckpointError, match=r"unknown fields \['n_layer_s'\]; known: n_layers"):
        load_folder(tmp_path)


def test_no_network_call_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: calls.append(args))
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: calls.append(address))
    old_bert(tmp_path / "bert")
    legacy_folder(tmp_path / "legacy")
    saved("gpt2", tmp_path / "gpt2")
    for name in ("bert", "legacy", "gpt2"):
        load_folder(tmp_path / name)
    model = load_folder(tmp_path / "bert")
    model.save(tmp_path / "hooked")
    assert load_folder(tmp_path / "hooked").to_str_tokens("tom was", prepend_bos=False) == ["tom", "was"]
    assert not calls


def test_tokenizer_of_another_kind_than_its_architecture_is_kept(family: str, tmp_path: Path) -> None:
    """The shipped models' own tokenizers, not rebuilt as BERT's (which lowers case) or GPT-2's."""
    saved(family, tmp_path)
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "Tom": 1, "tom": 2, "was": 3}, "[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(tmp_path)
    model = load_folder(tmp_path)
    assert model.to_str_tokens("Tom was tom happy", prepend_bos=False) == ["Tom", "was", "tom", "[UNK]"]


def test_byte_pair_tokenizer_of_older_versions(tmp_path: Path) -> None:
    """A vocabulary and merges, no tokenizer.json, as beside the first GPT-2 and GPT-Neo checkpoints."""
    saved("gpt_neo", tmp_path)
    vocabulary = ["t", "o", "m", "Ġ", "to", "tom", "Ġtom", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt o\nto m\nĠ tom\n", encoding="utf-8")
    assert load_folder(tmp_path).to_str_tokens("tom tom") == ["<|endoftext|>", "tom", " tom"]


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    old_bert(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "one", "more"]))
    with pytest.raises(CheckpointError, match="the tokenizer has 12 tokens, the model's embedding only 10 rows"):
        load_folder(tmp_path)


def test_unreadable_tokenizer(tmp_path: Path) -> None:
    saved("gpt2", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the tokenizer files cannot be read"):
        load_folder(tmp_path)


class RunsCode:
    """Unpickling this creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickle_that_needs_code_is_refused(zipped: bool, protocol: int, tmp_path: Path) -> None:
    legacy_folder(tmp_path)
    trap, file = tmp_path / "trap", tmp_path / "toy_final.pth"
    state = {"embed.W_E": RunsCode(trap)}
    torch.save(state, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError,
        match=r"toy_final\.pth: refused, because reading it would run code \((posix\.mkdir|a general pickle)\)",
    ):
        load_folder(tmp_path)
    assert not trap.exists()


def truncate(path: Path, keep: float) -> None:
    """Cut a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.999])
def test_truncated_files(keep: float, tmp_path: Path) -> None:
    saved("gpt2", tmp_path / "gpt2")
    truncate(tmp_path / "gpt2" / "model.safetensors", keep)
    with pytest.raises(CheckpointError, match=r"gpt2/model\.safetensors: corrupt or truncated safetensors file"):
        load_folder(tmp_path / "gpt2")
    legacy_folder(tmp_path / "legacy")
    truncate(tmp_path / "legacy" / "toy_final.pth", keep)
    with pytest.raises(CheckpointError, match=r"legacy/toy_final\.pth: corrupt or truncated PyTorch file"):
        load_folder(tmp_path / "legacy")


@pytest.mark.parametrize(
    "junk", [b"<html>not found</html>", b"\x80\x02", b"version https://git-lfs.github.com/spec/v1"]
)
def test_files_that_are_something_else(junk: bytes, tmp_path: Path) -> None:
    legacy_folder(tmp_path)
    (tmp_path / "toy_final.pth").write_bytes(junk)
    with pytest.raises(CheckpointError, match=r"toy_final\.pth: corrupt or truncated PyTorch file"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "holds list, expected a state dict"),
        ({"model": {}}, "key 'model' holds dict, expected a tensor"),
    ],
)
def test_pytorch_files_that_hold_no_state_dict(value: object, message: str, tmp_path: Path) -> None:
    legacy_folder(tmp_path)
    torch.save(value, tmp_path / "toy_final.pth")
    with pytest.raises(CheckpointError, match=message):
        load_folder(tmp_path)


KEYS = {
    "gpt_neo": "transformer.h.1.mlp.c_fc.weight",
    "gpt2": "transformer.h.1.mlp.c_fc.weight",
    "bert": "bert.encoder.layer.1.intermediate.dense.weight",
    "distilbert": "distilbert.transformer.layer.1.ffn.lin1.weight",
}


def test_wrong_tensors_are_named(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    original = safetensors.torch.load_file(tmp_path / "model.safetensors")
    key = KEYS[family]
    shown, file = re.escape(key.removeprefix("transformer.")), r"model\.safetensors: "
    shape = re.escape(str(list(original[key].shape)))
    cases = {
        rf"{file}key '{shown}' is missing, expected shape {shape}": {k: w for k, w in original.items() if k != key},
        rf"{file}key '{shown}' has shape \[3, 3\], expected {shape}": original | {key: torch.ones(3, 3)},
        rf"{file}key '{shown}' holds torch.int64": original | {key: torch.ones_like(original[key], dtype=torch.int64)},
        rf"{file}unexpected keys.*'extra.weight' \[7\]": original | {"extra.weight": torch.ones(7)},
    }
    for message, tensors in cases.items():
        safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            load_folder(tmp_path)


def test_wrong_tensors_in_hooked_transformer_format(tmp_path: Path) -> None:
    toy_model().save(tmp_path)
    edit_weights(tmp_path, lambda tensors: tensors | {"blocks.0.mlp.W_in": torch.ones(37, 16)})
    message = r"model\.safetensors: key 'blocks\.0\.mlp\.W_in' has shape \[37, 16\], expected \[16, 37\]"
    with pytest.raises(CheckpointError, match=message):
        load_folder(tmp_path)
    edit_weights(tmp_path, lambda tensors: tensors | {"blocks.0.mlp.W_in": torch.ones(16, 37), "W_new": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"unexpected keys.*'W_new' \[1\]"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gpt2", {"n_embd": None}, "field 'n_embd' is missing"),
        ("gpt2", {"n_layer": "two"}, "field 'n_layer' is 'two', expected a whole number"),
        ("gpt2", {"layer_norm_epsilon": "small"}, "field 'layer_norm_epsilon' is 'small', expected a number"),
        ("gpt2", {"n_head": 5}, "n_embd=24 is not a multiple of n_head=5"),
        ("gpt2", {"activation_function": "gelu_fast"}, "activation_function='gelu_fast'.* supported: gelu"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True is not supported"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention=True is not supported"),
        ("gpt_neo", {"attention_layers": ["global", "sparse"]}, "attention_layers=.*'global' or 'local' for each"),
        ("bert", {"is_decoder": True}, "is_decoder=True is not supported"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ("bert", {"model_type": "llama"}, "model_type='llama'.*supported: GPT-Neo .*GPT-2 .*BERT .*DistilBERT"),
        ("bert", {"model_type": None, "architectures": ["T5Model"]}, "T5Model.*supported: GPT-Neo"),
    ],
)  # fmt: skip
def test_refused_configurations(family: str, changes: dict, message: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{message}"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalization": "RMS"}, "normalization_type='RMS'"),
        ({"architecture": "mingpt"}, "architecture='mingpt'"),
        ({"attn_only": False}, "act_fn='solu_ln': choose one of"),
        ({"shortformer_pos": "maybe"}, "shortformer_pos='maybe'"),
    ],
)
def test_refused_legacy_configurations(changes: dict, message: str, tmp_path: Path) -> None:
    legacy_folder(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        load_folder(tmp_path)


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: not a folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json: not found"):
        load_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not readable as JSON"):
        load_folder(tmp_path)
    saved("gpt2", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"expected one weight file .*found none"):
        load_folder(tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"found a\.pt, b\.pt"):
        load_folder(tmp_path)


def test_shards_stay_in_the_folder(tmp_path: Path) -> None:
    saved("gpt2", tmp_path / "model", max_shard_size="10KB")
    index = tmp_path / "model" / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"] = dict.fromkeys(values["weight_map"], "../elsewhere.safetensors")
    index.write_text(json.dumps(values))
    with pytest.raises(
        CheckpointError, match=r"'\.\./elsewhere\.safetensors' is not the name of a file in this folder"
    ):
        load_folder(tmp_path / "model")
