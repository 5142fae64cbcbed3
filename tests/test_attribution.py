"""Direct logit attribution: exact in every family, planted truth, TransformerLens' own sums, nulls, refusals."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, BERT_FIELDS, random_tokens, toy_model
from toy_text import reading_model

from experiments import direct_logit_attribution as experiment
from lens_utils import attribution, hook_names
from lens_utils.attribution import Aim
from lens_utils.attribution.measured import identities, measure
from lens_utils.attribution.study import TOTAL
from lens_utils.circuit_reports import attribution_tables
from lens_utils.hooked_transformer.processing import fold
from lens_utils.models import load_model
from lens_utils.planted import BETA, induction_model
from lens_utils.prompt_pairs import PromptPair, load_pairs
from lens_utils.prompts import TokenizedText
from lens_utils.tables import to_csv, to_markdown

ATTENTION_ONLY = {"attn_only": True, "d_mlp": None, "act_fn": None}
FAMILIES = ARCHITECTURES | {
    "distilbert": BERT_FIELDS | {"n_token_types": 0, "n_layers": 3},
    "bert without MLPs": BERT_FIELDS | ATTENTION_ONLY,
    "masked head behind pre-norm": {"attention_dir": "bidirectional", "mlm_head": True, "mlm_act_fn": "relu"},
}
AIMS = [Aim(3, 11), Aim(7), Aim(5, over_mean=True)]
END = 4


def text_of(tokens: list[int]) -> TokenizedText:
    strings = tuple(map(str, tokens))
    return TokenizedText(0, " ".join(strings), torch.tensor(tokens), strings, ("word",) * len(tokens))


TEXT = text_of(random_tokens(1)[0].tolist())


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest):
    return toy_model(dtype=torch.float64, **FAMILIES[request.param])


def test_many_aims_at_once() -> None:
    logits = torch.randn(2, 3, 29, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for aims in (AIMS, AIMS[:1], AIMS[1:2], [*AIMS, Aim(2, 0)]):
        same(attribution.aims.all_of(aims, logits), torch.stack([aim.of(logits) for aim in aims], dim=-1))


class FrozenByHooks:
    """The model with everything that is not linear, and all that blocks add, written back from its own run."""

    def __init__(self, model) -> None:
        self.model = model
        with torch.no_grad():
            _, self.cache = model.run_with_cache(TEXT.tokens[None])
        self.pre: torch.Tensor | None = None

    def targets(self, changed: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """The aims at END; `changed` replaces what a hook writes back."""
        kept = ("hook_scale", "hook_attn_out", "hook_mlp_out")
        values = {name: value for name, value in self.cache.items() if name.endswith(kept)} | (changed or {})
        hooks = [(name, lambda old, hook, value=value: value) for name, value in values.items()]
        if self.model.cfg.mlm_head:
            hooks += [("mlm_head.hook_pre", self._note), ("mlm_head.hook_post", self._gated)]
        with torch.no_grad():
            logits = self.model.run_with_hooks(TEXT.tokens[None], fwd_hooks=hooks)[0, END]
        return torch.stack([aim.of(logits) for aim in AIMS])

    def _note(self, pre: torch.Tensor, hook: object) -> torch.Tensor:
        self.pre = pre
        return pre

    def _gated(self, post: torch.Tensor, hook: object) -> torch.Tensor:
        assert self.pre is not None
        return self.pre * (self.cache["mlm_head.hook_post"] / self.cache["mlm_head.hook_pre"])

    def without(self, hook: str, part: torch.Tensor) -> torch.Tensor:
        """How much the targets fall when `part` is taken from what a hook writes."""
        return self.targets() - self.targets({hook: self.cache[hook] - part})

    def without_parameter(self, parameter: torch.Tensor) -> torch.Tensor:
        """How much they fall when a bias is 0."""
        with_it, kept = self.targets(), parameter.detach().clone()
        with torch.no_grad():
            parameter.zero_()
            without = self.targets()
            parameter.copy_(kept)
        return with_it - without


def biases_of_values(model, layer: int) -> torch.Tensor:
    """What every head's values are where the tokens bring nothing: LN1's bias through W_V, and b_V."""
    block = model.blocks[layer]
    if model.cfg.normalization_type != "LN" or model.cfg.post_norm:
        return block.attn.b_V
    return torch.stack([block.ln1.b @ weight for weight in block.attn.W_V]) + block.attn.b_V


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.detach(), expected.detach(), atol=1e-10, rtol=1e-9)


def decomposed(model):
    run = attribution.freeze(model, TEXT, END)
    return run, *attribution.decompose(model, run, AIMS)


@torch.no_grad()
def test_each_part_is_what_the_frozen_model_loses_without_it(model) -> None:
    frozen, (run, parts, _) = FrozenByHooks(model), decomposed(model)
    hooks = {"token": "hook_embed", "position": "hook_pos_embed", "token type": "hook_token_type_embed"}
    assert parts.embeddings
    for name, value in parts.embeddings.items():
        hook = hooks[name.removesuffix(" embedding")]
        same(value, frozen.without(hook, frozen.cache[hook]))
    for layer, block in enumerate(model.blocks):
        attn_out, bias = f"blocks.{layer}.hook_attn_out", biases_of_values(model, layer)
        z = frozen.cache[f"blocks.{layer}.attn.hook_z"] - bias
        for head in range(model.cfg.n_heads):
            same(parts.heads[layer, head], frozen.without(attn_out, z[:, :, head] @ block.attn.W_O[head]))
        rest = block.attn.b_O + sum(bias[head] @ block.attn.W_O[head] for head in range(model.cfg.n_heads))
        same(parts.biases[f"L{layer} attention bias"], frozen.without(attn_out, rest))
        if block.mlp is not None:
            mlp_out = f"blocks.{layer}.hook_mlp_out"
            same(parts.mlps[layer], frozen.without(mlp_out, frozen.cache[mlp_out] - block.mlp.b_out))
            same(parts.biases[f"L{layer} MLP bias"], frozen.without(mlp_out, block.mlp.b_out))
    norms = {"embedding LN bias": "embed_ln.b", "final LN bias": "ln_final.b", "b_U": "unembed.b_U"}
    norms |= {"head LN bias": "mlm_head.ln.b", "head bias": "mlm_head.b"}
    norms |= {f"L{n} LN{which} bias": f"blocks.{n}.ln{which}.b" for n in range(model.cfg.n_layers) for which in (1, 2)}
    others = {name for name in parts.biases if not name.endswith(("attention bias", "MLP bias"))}
    for name in others:
        same(parts.biases[name], frozen.without_parameter(model.get_parameter(norms[name])))
    same(torch.stack([*parts.components.values()]).sum(0), torch.stack([aim.of(run.logits) for aim in AIMS]))


@torch.no_grad()
def test_neurons_and_source_tokens_are_what_the_frozen_model_loses_without_them(model) -> None:
    frozen, (run, parts, vectors) = FrozenByHooks(model), decomposed(model)
    neurons, sources = (
        torch.stack([each(model, run, vectors, target=target) for target in range(len(AIMS))], dim=-1)
        for each in (attribution.neuron_parts, attribution.source_parts)
    )
    same(sources.sum(2), parts.heads)
    if not model.cfg.attn_only:
        same(neurons.sum(1), parts.mlps)
    for layer, block in enumerate(model.blocks):
        cache, head, key = frozen.cache, 1, 2
        weight = cache[f"blocks.{layer}.attn.hook_pattern"][0, head, :, key, None]
        value = cache[f"blocks.{layer}.attn.hook_v"][0, key, head] - biases_of_values(model, layer)[head]
        moved = weight * (value @ block.attn.W_O[head])
        same(sources[layer, head, key], frozen.without(f"blocks.{layer}.hook_attn_out", moved))
        if block.mlp is not None:
            written = cache[f"blocks.{layer}.mlp.hook_post"][..., 5, None] * block.mlp.W_out[5]
            same(neurons[layer, 5], frozen.without(f"blocks.{layer}.hook_mlp_out", written))


@torch.no_grad()
def test_the_two_lenses(model) -> None:
    run, parts, vectors = decomposed(model)
    tokens, n_layers = TEXT.tokens[None], model.cfg.n_layers
    for target, aim in enumerate(AIMS):
        lens = attribution.logit_lens(model, run, aim, vectors, target=target)
        steps = [name for name in parts.components if name.startswith("L") and name.endswith(("attention", "MLP"))]
        assert lens.depths == ("embeddings", *steps)
        # Logit lens: the residual stream at the block's end through the model's own way out
        for layer in range(n_layers + 1):
            stream = model(tokens, stop_at_layer=layer)
            logits = model.unembed(model.mlm_head(model.ln_final(stream)))[0, END]
            at = layer * (1 if model.cfg.attn_only else 2)
            same(lens.recomputed[at], aim.of(logits))
            assert int(lens.top[at]) == int(logits.argmax())
        same(lens.accumulated[-1], aim.of(run.logits))
        # Accumulated: parts so far, and the biases behind the last block
        read_out = [name for name in parts.biases if name.startswith(("final", "head")) or name == "b_U"]
        total = sum(parts.biases[name][target] for name in read_out)
        total = total + sum(value[target] for value in parts.embeddings.values())
        total = total + parts.biases.get("embedding LN bias", torch.zeros(3))[target]
        same(lens.accumulated[0], total)
        for at, step in enumerate(steps, start=1):
            layer, kind = step.split()
            behind = f"{layer} LN{1 if kind == 'attention' else 2} bias"
            total = total + parts.components[step][target] + parts.biases[f"{step} bias"][target]
            total = total + parts.biases.get(behind, torch.zeros(3))[target]
            same(lens.accumulated[at], total)


@pytest.mark.parametrize("family", ["decoder", "attention-only", "local", "no-positions", "zero-layer", "no-norm"])
def test_folding_changes_no_part_but_the_biases(family: str) -> None:
    model = toy_model(dtype=torch.float64, **FAMILIES[family])
    (_, raw, _), (_, folded, _) = decomposed(model), decomposed(fold(model))
    # The logit of a single token alone changes with the centring of W_U
    for index in (0, 2):
        same(folded.heads[..., index], raw.heads[..., index])
        same(folded.mlps[..., index], raw.mlps[..., index])
        for name, value in raw.embeddings.items():
            same(folded.embeddings[name][index], value[index])
        both = [torch.stack([*each.biases.values()]).sum(0)[index] for each in (raw, folded)]
        same(*both)


@pytest.mark.parametrize("changes", [{}, ATTENTION_ONLY], ids=["decoder", "attention-only"])
@torch.no_grad()
def test_folded_parts_are_those_of_transformer_lens(changes: dict) -> None:
    model = fold(toy_model(**changes))
    model.set_use_attn_result(True)
    _, cache = model.run_with_cache(TEXT.tokens[None])
    stack, names = cache.decompose_resid(layer=-1, mode="all", pos_slice=END, return_labels=True)
    options = {"tokens": 3, "incorrect_tokens": 11, "pos_slice": END}
    theirs = dict(zip(names, cache.logit_attrs(stack, **options)[:, 0].double(), strict=True))
    _, parts, _ = decomposed(model)
    expected = {"embed": parts.embeddings["token embedding"][0], "pos_embed": parts.embeddings["position embedding"][0]}
    for layer in range(model.cfg.n_layers):
        expected[f"{layer}_attn_out"] = parts.heads[layer, :, 0].sum() + parts.biases[f"L{layer} attention bias"][0]
        if len(parts.mlps):
            expected[f"{layer}_mlp_out"] = parts.mlps[layer, 0] + parts.biases[f"L{layer} MLP bias"][0]
    assert set(expected) <= set(theirs)
    for name, value in expected.items():
        assert float(theirs[name]) == pytest.approx(float(value), abs=2e-5)
    heads = cache.logit_attrs(cache.stack_head_results(layer=-1, pos_slice=END), **options)[:, 0]
    torch.testing.assert_close(heads.double(), parts.heads[..., 0].flatten(), atol=2e-5, rtol=1e-4)


def test_the_gate_of_a_silent_unit_is_the_slope_at_zero() -> None:
    model = toy_model(dtype=torch.float64, **BERT_FIELDS)
    with torch.no_grad():
        model.mlm_head.W[:, 2] = 0
        model.mlm_head.b[2] = 0
    run, parts, _ = decomposed(model)
    assert run.gate is not None
    assert float(run.gate[2]) == 0.5
    same(torch.stack([*parts.components.values()]).sum(0), torch.stack([aim.of(run.logits) for aim in AIMS]))


V, N = 9, 17
REPEATED = [0, *range(1, 9), *range(1, 9)]


def test_planted_induction_head_is_all_there_is() -> None:
    model = induction_model(V, N).build()
    # Position 11 holds token 3, whose first copy stood at 3: the answer is the 4 behind it
    run = attribution.freeze(model, text_of(REPEATED), 11)
    parts, vectors = attribution.decompose(model, run, [Aim(4), Aim(4, 7)])
    assert parts.heads[1, 0].tolist() == [BETA, BETA]
    assert all(value.abs().max() == 0 for name, value in parts.components.items() if name != "L1 attention")
    others = parts.heads.clone()
    others[1, 0] = 0
    assert others.abs().max() == 0
    sources = attribution.source_parts(model, run, vectors)
    assert sources[1, 0, 4] == BETA
    assert sources.abs().sum() == BETA
    lens = attribution.logit_lens(model, run, Aim(4), vectors)
    assert (lens.recomputed.tolist(), lens.accumulated.tolist()) == ([0, 0, BETA], [0, 0, BETA])


def planted_questions() -> tuple[attribution.Question, ...]:
    """The last token of the first copy's k tokens said again; the wrong answer is the token after that."""
    pairs = []
    for index, k in enumerate(range(1, 7)):
        clean = replace(text_of([0, *range(1, 9), *range(1, k + 1)]), index=index)
        corrupted = text_of([0, *range(8, 0, -1), *range(1, k + 1)])
        same_place = tuple((pos, pos) for pos in range(len(clean)))
        pairs.append(PromptPair(clean, corrupted, k + 1, k + 2, 8 + k, 8 + k, same_place))
    return attribution.from_pairs(pairs)


class TestStudy:
    def test_planted_circuit_stands_out_and_nothing_else(self) -> None:
        model = induction_model(V, N).build()
        study = attribution.study_attribution(model, planted_questions(), target="answer_minus_wrong", n_shuffles=500)
        found = study.heads
        assert found.mean.tolist() == [0, 0, BETA, 0]
        assert (found.interval(2).low, found.interval(2).high) == (BETA, BETA)
        assert found.q[2] < 0.05
        assert found.q[[0, 1, 3]].tolist() == [1, 1, 1]
        assert float(found.null[:, 2].mean()) == pytest.approx(0, abs=1.5)
        assert study.right.tolist() == [1] * 6
        assert study.components.names[0] == TOTAL
        assert not study.neurons.names
        # BETA to the answer; the mean logit rises by its share of the vocabulary
        assert study.sides.mean(0)[2].tolist() == pytest.approx([BETA - BETA / V, -BETA / V], abs=1e-5)

    def test_null_is_the_mean_over_prompts_asked_for_each_others_tokens(self) -> None:
        model = toy_model(dtype=torch.float64)
        questions = planted_questions()
        study = attribution.study_attribution(model, questions, target="answer_minus_wrong", n_shuffles=3, seed=5)
        null = attribution.null_aims(model, study.aims, n_shuffles=3, seed=5)
        assert [sorted(draw.tolist()) for draw in null.draws] == [list(range(6))] * 3
        for shuffle, draw in enumerate(null.draws.tolist()):
            totals, heads, neurons = [], [], []
            for question, other in zip(questions, draw, strict=True):
                run = attribution.freeze(model, question.text, question.end)
                parts, vectors = attribution.decompose(model, run, [study.aims[other]])
                totals.append(study.aims[other].of(run.logits))
                heads.append(parts.heads[..., 0].flatten())
                neurons.append(attribution.neuron_parts(model, run, vectors).flatten())
            same(study.components.null[shuffle, 0], torch.stack(totals).mean())
            same(study.heads.null[shuffle], torch.stack(heads).mean(0))
            places = [name[1:].split("N") for name in study.neurons.names]
            index = [37 * int(layer) + int(neuron) for layer, neuron in places]
            same(study.neurons.null[shuffle], torch.stack(neurons).mean(0)[index])

    def test_neurons_are_the_largest_ones(self) -> None:
        model, questions = toy_model(dtype=torch.float64), planted_questions()
        every = attribution.study_attribution(model, questions, target="answer", top_neurons=1000, n_shuffles=1)
        some = attribution.study_attribution(model, questions, target="answer", top_neurons=4, n_shuffles=1)
        assert len(every.neurons.names) == every.n_neurons == 2 * 37
        assert some.neurons.names == every.neurons.names[:4]
        assert (every.neurons.mean.abs().diff() <= 0).all()
        run = attribution.freeze(model, questions[0].text, questions[0].end)
        _, vectors = attribution.decompose(model, run, [every.aims[0]])
        values = attribution.neuron_parts(model, run, vectors)
        layer, neuron = map(int, every.neurons.names[0][1:].split("N"))
        same(every.neurons.values[0, 0], values[layer, neuron])

    def test_constants_of_the_model_are_no_finding(self) -> None:
        study = attribution.study_attribution(toy_model(), planted_questions(), target="answer", n_shuffles=200)
        q = dict(zip(study.components.names, study.components.q.tolist(), strict=True))
        assert q["b_U"] == 1

    def test_random_tokens_where_all_ask_for_the_same_or_prompts_are_few(self) -> None:
        model = reading_model()
        special = set(model.tokenizer.all_special_ids)
        for aim in (Aim(9), Aim(9, 12), Aim(9, over_mean=True)):
            null = attribution.null_aims(model, [aim] * 3, n_shuffles=50, seed=0)
            assert null.draws.shape == (50, 3)
            assert null.draws.unique().numel() > 40
            asked = {token for each in null.pool for token in (each.token, each.wrong) if token is not None}
            assert len(asked) > 30
            assert not asked & special
            assert {(each.wrong is None, each.over_mean) for each in null.pool} == {(aim.wrong is None, aim.over_mean)}
            assert "random" in null.statement
        few, enough = ([Aim(token) for token in range(9, 9 + n)] for n in (4, 5))
        assert "random" in attribution.null_aims(model, few, n_shuffles=1, seed=0).statement
        assert attribution.null_aims(model, enough, n_shuffles=1, seed=0).pool == tuple(enough)

    @pytest.mark.parametrize("target", attribution.questions.TARGETS)
    def test_every_target_in_every_family(self, target: attribution.Target) -> None:
        for family in ("decoder", "shortformer", "zero-layer", "bert"):
            toy, questions = toy_model(**FAMILIES[family]), planted_questions()[:2]
            study = attribution.study_attribution(toy, questions, target=target, n_shuffles=2)
            assert all(identity.holds for identity in study.identities), study.identities
            assert all(value == 1 for value in study.right) or target != "top"

    def test_identities_notice_what_is_missing(self) -> None:
        model = toy_model(dtype=torch.float64)
        run, aim = attribution.freeze(model, TEXT, END), Aim(3, 11)
        found = measure(model, run, aim, attribution.null_aims(model, [aim, Aim(1, 2)], n_shuffles=1, seed=0))
        assert all(identity.holds for identity in identities([found]))
        broken = {
            "components": replace(found, parts=replace(found.parts, mlps=found.parts.mlps + 1e-3)),
            "heads": replace(found, parts=replace(found.parts, heads=found.parts.heads + 1e-3)),
            "neurons": replace(found, neurons=found.neurons + 1e-3),
            "source": replace(found, source=found.source._replace(parts=found.source.parts * float("nan"))),
            "lens": replace(found, lens=replace(found.lens, accumulated=found.lens.accumulated + 1e-3)),
        }
        for level, wrong in broken.items():
            failing = [identity.name for identity in identities([found, wrong]) if not identity.holds]
            assert any(level in name for name in failing), (level, failing)


class TestTrained:
    def test_one_head_names_the_recipient(self) -> None:
        model = load_model("zoo-attn-2l")
        pairs = attribution.from_pairs(load_pairs(model, "name_recipient", n=16, seed=1))
        study = attribution.study_attribution(model, pairs, target="answer_minus_wrong")
        best = int(study.heads.mean.argmax())
        assert study.heads.mean[best] > 0.9 * study.components.mean[0]
        assert study.heads.q[best] < 0.05
        made = attribution_tables.tables(study)
        split = made["heads_by_group"].frame.pivot(index="head", columns="group", values="mean")
        both = torch.tensor(split.loc[list(study.heads.names)].to_numpy())
        same(both.mean(1), study.heads.mean)
        assert bool((both[best] > 0).all())
        roles = made["source_roles"].frame
        mine = roles[roles["head"] == study.heads.names[best]].set_index("role")
        # It does not copy the recipient: it looks at the giver's second mention and suppresses the giver
        to_answer, to_wrong = study.sides.mean(0)[best].tolist()
        assert to_wrong < -0.8 * float(study.heads.mean[best])
        assert abs(to_answer) < 0.3 * abs(to_wrong)
        torch.testing.assert_close(study.sides[..., 0] - study.sides[..., 1], study.heads.values, atol=5e-5, rtol=1e-4)
        assert mine["mean"].idxmax() == "wrong 2"
        assert mine["attention"].idxmax() == "wrong 2"


PAIRS = [
    {"clean": "Tom was not happy. He was", "corrupted": "Tom was happy. He was", "answer": "sad", "wrong": "happy"},
    {"clean": "Lily was not sad. He was", "corrupted": "Lily was sad. He was", "answer": "happy", "wrong": "sad"},
    {"clean": "Jack was not big. He was", "corrupted": "Jack was big. He was", "answer": "round", "wrong": "big"},
]


@contextmanager
def nothing_runs(model, monkeypatch: pytest.MonkeyPatch):
    """Inside, a forward pass is an error."""

    def forward(*args: object, **options: object) -> None:
        raise AssertionError("a forward pass")

    with monkeypatch.context() as patched:
        patched.setattr(type(model), "forward", forward)
        yield


class TestExperiment:
    @pytest.mark.parametrize("family", ["decoder", "attention-only", "shortformer", "bert", "distilbert", "no-norm"])
    def test_every_table_and_figure(self, family: str, tmp_path: Path) -> None:
        masked = FAMILIES[family].get("attention_dir") == "bidirectional"
        model = reading_model(masked=masked, **FAMILIES[family])
        ending = " [MASK] ." if masked else ""
        rows = [row | {name: row[name] + ending for name in ("clean", "corrupted")} for row in PAIRS]
        file = tmp_path / "pairs.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        config = experiment.Config(model="toy", pairs=str(file), shuffles=50, top_neurons=5)
        found = experiment.run(config, model)
        assert all(identity.holds for identity in found.identities)
        tables, drawn = experiment.tables(found), experiment.figures(found)
        expected = ["components", "heads", "source_roles", "logit_lens", "prompts"]
        assert list(tables) == expected + ["neurons"] * (not model.cfg.attn_only)
        assert set(drawn) == {"components", "heads", "source_roles", "source_tokens", "logit_lens"} | (
            set() if model.cfg.attn_only else {"neurons"}
        )
        assert all(to_csv(table) and to_markdown(table) for table in tables.values())
        components = tables["components"].frame.set_index("component")["mean"]
        assert components.iloc[1:].sum() == pytest.approx(components[TOTAL], abs=1e-4)
        heads = tables["heads"].frame.set_index("head")["mean"]
        attention = [name for name in components.index if name.endswith("attention")]
        assert heads.sum() == pytest.approx(components[attention].sum(), abs=1e-4)
        roles = tables["source_roles"].frame.groupby("head")
        assert roles["mean"].sum()["L1H2"] == pytest.approx(heads["L1H2"], abs=1e-4)
        assert roles["mean"].sum()["all heads"] == pytest.approx(heads.sum(), abs=1e-4)
        assert roles["attention"].sum().to_list() == pytest.approx([1] * (1 + len(heads)), abs=1e-5)
        lens = tables["logit_lens"].frame.iloc[-1]
        assert lens["logit_lens"] == pytest.approx(components[TOTAL], abs=1e-4)
        assert lens["accumulated"] == pytest.approx(components[TOTAL], abs=1e-4)
        prompts = tables["prompts"].frame
        assert [each.strip() for each in prompts["token"]] == ["sad", "happy", "round"]

    @pytest.mark.parametrize("masked", [False, True])
    def test_free_texts_are_about_the_first_choice(self, masked: bool) -> None:
        model = reading_model(masked=masked)
        texts = ("Tom was sad because he lost his [MASK] .", "The moon was [MASK] .")
        texts = texts if masked else tuple(text.partition(" [MASK]")[0] for text in texts)
        found = experiment.run(experiment.Config(model="toy", prompts=texts, shuffles=20), model)
        assert found.study.target == "top"
        assert [question.end for question in found.study.questions] == ([8, 4] if masked else [7, 3])
        rows = experiment.tables(found)["prompts"].frame
        assert rows["token"].to_list() == rows["first_choice"].to_list()
        for index, question in enumerate(found.study.questions):
            with torch.no_grad():
                logits = model(question.text.tokens[None])[0, question.end]
            assert float(rows["target"][index]) == pytest.approx(float(logits.max() - logits.mean()), abs=1e-4)
        assert experiment.figures(found)

    def test_one_prompt_alone(self) -> None:
        found = experiment.run(experiment.Config(model="toy", prompts=("The moon was",), shuffles=20), reading_model())
        assert "random token" in experiment.tables(found)["components"].caption

    def test_refusals_come_before_any_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for options, message in (
            ({"n": 0}, "n=0: must be at least 1"),
            ({"shuffles": 0}, "shuffles=0"),
            ({"top_neurons": 0}, "top_neurons=0"),
            ({"prompts": ("a",), "pairs": "negation"}, "give one of them"),
            ({"prompts": ("a",), "target": "answer"}, "free texts"),
        ):
            with pytest.raises(ValueError, match=message):
                experiment.Config(**options)
        decoder, masked = reading_model(), reading_model(masked=True)
        with nothing_runs(decoder, monkeypatch):
            for model, options, message in (
                (decoder, {"pairs": "no such set"}, "no such file"),
                (decoder, {"prompts": (" ",)}, "prompt 0 is empty"),
                (decoder, {"prompts": ("The moon " * 40,)}, "shorten it"),
                (masked, {"prompts": ("The moon was big.",)}, "prompt 0: .* has 0 mask tokens"),
            ):
                with pytest.raises(ValueError, match=message):
                    experiment.run(experiment.Config(model="toy", **options), model)
            prompts = attribution.from_prompts(decoder, ["The moon was"])
            for asked, options, message in (
                ((), {"target": "top"}, "questions"),
                (prompts, {"target": "answer"}, "free texts have no answer"),
                (prompts, {"target": "top", "top_neurons": 0}, "top_neurons=0"),
            ):
                with pytest.raises(ValueError, match=message):
                    attribution.study_attribution(decoder, asked, **options)
            with pytest.raises(ValueError, match="target='bottom': choose one of answer_minus_wrong"):
                attribution.check_target(prompts, "bottom")
            with pytest.raises(ValueError, match="positions 0 to 6"):
                attribution.freeze(decoder, TEXT, 7)
            with pytest.raises(ValueError, match="n_shuffles=0"):
                attribution.null_aims(decoder, [Aim(1)], n_shuffles=0, seed=0)


def test_hooks_are_those_that_are_read() -> None:
    model = toy_model(**BERT_FIELDS)
    assert set(attribution.frozen_hooks(model)) <= set(model.hook_dict)
    assert hook_names.MLM_HEAD_LN_SCALE in attribution.frozen_hooks(model)
