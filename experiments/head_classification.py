"""Which heads attend to the previous token, the clause start, the opening quote, and which to nothing we can name?

On a dialogue prompt and on generated stories, each head is scored under every target rule. A label needs the lower
bound of its lift above a threshold calibrated on planted heads, survives a correction for many tests, and must not be
explained by another rule. 'None' is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens_utils.experiment import ExperimentConfig, ExperimentFindings, main

if TYPE_CHECKING:
    import torch

    from lens_utils.figures import Figure
    from lens_utils.head_study import HeadStudy
    from lens_utils.hooked_transformer import HookedTransformer
    from lens_utils.identities import Identity
    from lens_utils.pages import Page
    from lens_utils.prompts import TokenizedText
    from lens_utils.tables import Table

REQUIRES = frozenset({"attention"})
MODELS = ("zoo-stories-1l", "zoo-attn-2l")
REPEATED_TOKENS = 48
"""Most random tokens of one copy, or as many as fit the context twice."""
PATTERNS_SHOWN = 160
"""Heads on the attention page, at most."""


@dataclass(frozen=True)
class Config(ExperimentConfig):
    """What to read, and which rules to score."""

    model: str = "zoo-stories-1l"
    """Registered model name, hub id, or path of a local folder; it needs attention heads."""
    prompts: tuple[str, ...] = ()
    """Texts to score; without any, the dialogue prompt of the published head table, and stories."""
    stories: int = 50
    """Generated stories to score beside the default prompt; long ones are cut to the model's context."""
    repeats: int = 20
    """Texts of random tokens said twice, on which induction is scored besides."""
    corpus: str = ""
    """UTF-8 text file to score instead (paragraphs are texts)."""
    rules: tuple[str, ...] = ()
    """Target rules to score; without any, all of them. `offset-K` exists for any K."""
    prepend_bos: bool | None = None
    """Whether texts get their special tokens (beginning of text; [CLS] and [SEP]); None is the model's own default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corpus and self.prompts:
            raise ValueError(f"corpus={self.corpus!r} and prompts={self.prompts!r}: give one of them")
        for name in ("stories", "repeats"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Findings(ExperimentFindings):
    """The heads' scores and labels, and the first text's patterns."""

    model_name: str
    causal: bool
    texts: tuple[TokenizedText, ...]
    study: HeadStudy
    patterns: torch.Tensor
    """Of the first text, [layer, head, query, key]."""
    published: tuple[str, ...]


def run(config: Config, model: HookedTransformer) -> Findings:
    """Check rules and texts, then score the heads, also on shuffled texts and with shuffled weights."""
    from lens_utils import hook_names
    from lens_utils.head_scores import check_rules
    from lens_utils.head_study import study_heads
    from lens_utils.prompts import repeated_texts
    from lens_utils.published import TINYSTORIES_HEADS, is_tinystories_1l_21m
    from lens_utils.target_rules import RULES

    rules = check_rules(config.rules or tuple(RULES))
    texts = _texts(config, model)
    longest = min(REPEATED_TOKENS, (model.cfg.n_ctx - 1) // 2)
    repeats = repeated_texts(model, config.repeats, longest=longest, seed=config.seed) if config.repeats else ()
    study = study_heads(model, texts, repeats, rules, seed=config.seed)
    patterns, identities = _first_text(model, texts[0], rules)
    return Findings(
        identities=identities,
        hooks=tuple(hook_names.pattern(layer) for layer in range(model.cfg.n_layers)),
        model_name=model.cfg.model_name,
        causal=not model.cfg.is_masked,
        texts=texts,
        study=study,
        patterns=patterns,
        published=TINYSTORIES_HEADS if is_tinystories_1l_21m(model) else (),
    )


def _texts(config: Config, model: HookedTransformer) -> tuple[TokenizedText, ...]:
    from pathlib import Path

    from lens_utils.prompts import LUCY_PROMPT, read_texts, tokenize_corpus, tokenize_prompts
    from lens_utils.zoo.stories import stories

    if config.corpus:
        return tuple(tokenize_corpus(model, read_texts(Path(config.corpus)), prepend_bos=config.prepend_bos))
    prompts = tokenize_prompts(model, config.prompts or (LUCY_PROMPT,), prepend_bos=config.prepend_bos)
    if config.prompts:
        return prompts
    told = stories(config.stories, config.seed, split="heldout")
    return (*prompts, *tokenize_corpus(model, told, prepend_bos=config.prepend_bos))


def _first_text(
    model: HookedTransformer, text: TokenizedText, rules: tuple[str, ...]
) -> tuple[torch.Tensor, tuple[Identity, ...]]:
    """The patterns of one text, and the scores of that text taken again straight from their definition."""
    import torch

    from lens_utils import hook_names
    from lens_utils.activations import cache_hooks
    from lens_utils.head_scores import score_by_definition, score_heads
    from lens_utils.identities import Identity

    cache = cache_hooks(model, [text], [hook_names.pattern(layer) for layer in range(model.cfg.n_layers)]).cache
    patterns = torch.stack([pattern[0].float().cpu() for pattern in cache.values()])
    fast = score_heads(model, [text], rules=rules).score
    slow = score_by_definition(patterns, text, rules, causal=not model.cfg.is_masked)
    known = ~slow.isnan()
    error = (fast - slow)[known].abs().max().item() if known.any() else 0.0
    both = torch.equal(fast.isnan(), slow.isnan())
    rows = (patterns.sum(-1) - 1).abs().max().item()
    return patterns, (
        Identity("patterns are distributions", "sum over keys of pattern = 1", rows, 1e-5),
        Identity(
            "scores follow their definition",
            "score over sorted cells = mean over rows with a target of the pattern times the rule's mask (first text)",
            error if both else float("inf"),
            1e-5,
        ),
    )


def tables(findings: Findings) -> dict[str, Table]:
    """One row a head first; then what the rules ask, and every score."""
    from lens_utils import head_tables

    study, texts = findings.study, findings.texts
    n_tokens = sum(map(len, texts))
    labelled = int(study.labels.any(0).sum())
    caption = (
        f"Heads of {findings.model_name} on {len(texts)} texts ({n_tokens} tokens): {labelled} of "
        f"{len(study.heads)} heads have a label. Intervals by bootstrap over texts."
    )
    made = {"heads": head_tables.heads_table(study, caption)}
    if findings.published:
        made["published"] = head_tables.published_table(study, findings.published)
    return made | {"rules": head_tables.rules_table(study), "all_scores": head_tables.scores_table(study)}


def figures(findings: Findings) -> dict[str, Figure | Page]:
    """Lift of every head under every rule, and the first text's patterns under the heads' labels."""
    import torch

    from lens_utils.figures import heatmap
    from lens_utils.pages import Page, Text, attention_grid

    study, text = findings.study, findings.texts[0]
    names = [f"L{layer}H{head}" for layer, head in study.heads]
    asked = torch.nonzero(study.scores.rows.sum(0)).flatten().tolist()
    lift = study.evidence.lift[asked].flatten(1).T
    labels = [", ".join(study.names(layer, head)) or "no label" for layer, head in study.heads]
    shown = min(len(names), PATTERNS_SHOWN)
    grid = attention_grid(
        findings.patterns.flatten(0, 1)[:shown],
        tokens=text.strings,
        names=[f"{name}: {label}" for name, label in zip(names, labels, strict=True)][:shown],
        caption="Choose a head; rows are queries, columns keys. Darker is more attention.",
        causal=findings.causal,
    )
    return {
        "lift": heatmap(
            lift,
            x_labels=[study.scores.rules[index] for index in asked],
            y_labels=names,
            title="Lift of each head under each rule",
            caption="(score - null) / (1 - null): 0 attends to all alike, 1 to targets only, below 0 avoids them.",
            diverging=True,
        ),
        "attention": Page(
            (Text(text.text), grid), "The pattern of every head on the first text, under the head's labels."
        ),
    }


if __name__ == "__main__":
    main(__name__)
