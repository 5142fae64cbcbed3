"""What does a masked model fill in?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens_utils.experiment import ExperimentConfig, ExperimentFindings, main

if TYPE_CHECKING:
    from lens_utils.hooked_transformer import HookedTransformer
    from lens_utils.tables import Table

REQUIRES = {"masked"}
MODELS = ("./toy-masked",)


@dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options of the toy experiment."""

    model: str = "./toy-masked"
    """A folder made by the tests."""


@dataclass(frozen=True, kw_only=True)
class Findings(ExperimentFindings):
    """The most likely token at each position."""

    tokens: list[int]


def run(config: Config, model: HookedTransformer) -> Findings:
    """Fill in one random prompt."""
    import torch

    tokens = torch.randint(model.cfg.d_vocab, (1, 5), generator=torch.Generator().manual_seed(config.seed))
    with torch.inference_mode():
        logits = model(tokens)
    return Findings(tokens=logits[0].argmax(dim=-1).tolist())


def tables(findings: Findings) -> dict[str, Table]:
    """The tokens."""
    import pandas as pd

    from lens_utils.tables import Column, Table

    return {"tokens": Table(pd.DataFrame({"id": findings.tokens}), {"id": Column("Token id")}, "Most likely tokens.")}


def figures(findings: Findings) -> dict[str, object]:
    """None."""
    return {}


if __name__ == "__main__":
    main(__name__)
