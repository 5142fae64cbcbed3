"""How long is the residual stream at each position?

Toy experiment of the tests. The environment variable TOY_PAUSE (seconds) makes it linger while results are written.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lens_utils.experiment import ExperimentConfig, ExperimentFindings, main

if TYPE_CHECKING:
    from lens_utils.figures import Figure
    from lens_utils.hooked_transformer import HookedTransformer
    from lens_utils.tables import Table

REQUIRES = {"causal"}


@dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options of the toy experiment."""

    model: str = "./toy-model"
    """A folder made by the tests."""
    length: int = 6
    """Tokens to draw."""
    words: tuple[str, ...] = ("NA", " the", "[red]")
    """Texts that are only shown."""
    corpus: Path | None = None
    """A file that is only read."""
    scale: float = 1.0
    """Multiplies the norms."""
    broken: bool = False
    """Let the identity fail."""


@dataclass(frozen=True, kw_only=True)
class Findings(ExperimentFindings):
    """Norms by position."""

    norms: list[float]
    words: tuple[str, ...]


def run(config: Config, model: HookedTransformer) -> Findings:
    """Norm of the last residual stream at each position of one random prompt."""
    import torch

    from lens_utils import hook_names
    from lens_utils.identities import Identity
    from lens_utils.progress import track

    if not 1 <= config.length <= model.cfg.n_ctx:
        raise ValueError(f"length={config.length!r}: the model reads 1 to {model.cfg.n_ctx} tokens")
    generator = torch.Generator().manual_seed(config.seed)
    tokens = torch.randint(model.cfg.d_vocab, (1, config.length), generator=generator)
    name = hook_names.resid_post(model.cfg.n_layers - 1)
    with torch.inference_mode():
        for _ in track(range(2), "forward [red]"):
            _, cache = model.run_with_cache(tokens, names_filter=name)
    norms = cache[name][0].norm(dim=-1) * config.scale
    error = 1.0 if config.broken else float((norms.sum() - norms.double().sum()).abs())
    identity = Identity("sums agree", "float32 sum of norms = float64 sum", error, 1e-3)
    return Findings(identities=(identity,), hooks=(name,), norms=norms.tolist(), words=config.words)


def tables(findings: Findings) -> dict[str, Table]:
    """Norms by position, and the words."""
    import pandas as pd

    from lens_utils.tables import Column, Table

    positions = list(range(len(findings.norms)))
    norms = {
        "position": Column("Position of the token, from 0"),
        "norm": Column("Length of the vector", "residual units"),
    }
    return {
        "norms": Table(pd.DataFrame({"position": positions, "norm": findings.norms}), norms, "Norm by position."),
        "words": Table(
            pd.DataFrame({"word": list(findings.words)}, dtype="str"), {"word": Column("A word", "token")}, "The words."
        ),
    }


def figures(findings: Findings) -> dict[str, Figure]:
    """Norms as bars."""
    from lens_utils.figures import bars

    time.sleep(float(os.environ.get("TOY_PAUSE", "0")))
    pairs = [(str(position), norm) for position, norm in enumerate(findings.norms)]
    return {"norm_bars": bars(pairs, title="Norms", caption="Norm by position.")}


if __name__ == "__main__":
    main(__name__)
