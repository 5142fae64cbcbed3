"""Where does each head look, raw and weighted by what it moves, and how well is each token predicted?

Pages for every layer and head of any model and prompt: the pattern, two weighted views and z, each by its own
definition and name; tokens by loss and log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens_utils.experiment import ExperimentConfig, ExperimentFindings, main

if TYPE_CHECKING:
    from lens_utils.attention_views import ReadText
    from lens_utils.figures import Figure
    from lens_utils.hooked_transformer import HookedTransformer
    from lens_utils.identities import Identity
    from lens_utils.pages import Page
    from lens_utils.prompts import TokenizedText
    from lens_utils.tables import Table

REQUIRES = frozenset({"attention"})
PROCESSING = "none"


@dataclass(frozen=True)
class Config(ExperimentConfig):
    """What to read."""

    model: str = "zoo-stories-1l"
    """Registered model name, hub id, or path of a local folder; it needs attention heads."""
    prompts: tuple[str, ...] = ()
    """Texts to show; without any, the dialogue prompt of the published head table."""
    top: int = 10
    """Likeliest tokens to show for each position."""
    prepend_bos: bool | None = None
    """Whether texts get their special tokens (beginning of text; [CLS] and [SEP]); None is the model's own default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise ValueError(f"top={self.top!r}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Findings(ExperimentFindings):
    """Each prompt's attention and predictions."""

    masked: bool
    read: tuple[ReadText, ...]


def run(config: Config, model: HookedTransformer) -> Findings:
    """Check all prompts, then read them one by one."""
    from lens_utils.progress import track
    from lens_utils.prompts import LUCY_PROMPT, tokenize_prompts
    from lens_utils.weighted_attention import attention_hooks

    texts = tokenize_prompts(model, config.prompts or (LUCY_PROMPT,), prepend_bos=config.prepend_bos)
    for text in texts:
        if len(text) < 2:
            raise ValueError(f"prompt {text.index} ({text.text!r}) has one token: attention needs at least two")
    made = [_read(model, text, config.top) for text in track(texts, "prompts")]
    worst: dict[str, Identity] = {}
    for _, identities in made:
        for identity in identities:
            if identity.name not in worst or worst[identity.name].error < identity.error:
                worst[identity.name] = identity
    return Findings(
        identities=tuple(worst.values()),
        hooks=attention_hooks(model),
        masked=model.cfg.is_masked,
        read=tuple(read for read, _ in made),
    )


def _read(model: HookedTransformer, text: TokenizedText, top: int) -> tuple[ReadText, tuple[Identity, ...]]:
    import torch

    from lens_utils.attention_views import ReadText
    from lens_utils.identities import Identity
    from lens_utils.token_predictions import token_predictions
    from lens_utils.weighted_attention import weighted_attention

    weighted, identities = weighted_attention(model, text)
    predictions = token_predictions(model, text, k=top)
    guesses = tuple(tuple(model.to_str_tokens(row)) for row in predictions.top_tokens)
    checks = list(identities)
    if not model.cfg.is_masked:
        with torch.inference_mode():
            loss = float(model(text.tokens[None].to(model.device), return_type="loss"))
        error = abs(loss + predictions.log_prob.double().mean().item())
        checks.append(Identity("losses average to the model's", "mean of -log p = loss, nats", error, 1e-4))
    return ReadText(text, weighted, predictions, guesses), tuple(checks)


def tables(findings: Findings) -> dict[str, Table]:
    """Heads first, then tokens."""
    from lens_utils.attention_views import heads_table, tokens_table

    return {"heads": heads_table(findings.read), "tokens": tokens_table(findings.read, masked=findings.masked)}


def figures(findings: Findings) -> dict[str, Figure | Page]:
    """A page for each weight, one for the tokens, and heatmap grids of the first prompt."""
    from lens_utils.attention_views import attention_page, heatmaps, predictions_page, z_page
    from lens_utils.weighted_attention import VIEWS

    made: dict[str, Figure | Page] = {
        view: attention_page(findings.read, view, causal=not findings.masked) for view in VIEWS
    }
    made["attention_times_value"] = z_page(findings.read)
    made["tokens"] = predictions_page(findings.read, masked=findings.masked)
    return made | heatmaps(findings.read[0])


if __name__ == "__main__":
    main(__name__)
