"""The cells [query, key] of a batch of texts, sorted by the rules whose targets they are: one pass serves all rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_utils.activations import ActivationBatch
from lens_utils.target_rules import rule_named
from lens_utils.text_structure import Text


@dataclass(frozen=True)
class Cells:
    """Each cell has a code: one bit a rule, set where the cell is its target."""

    codes: Int[Tensor, " code"]
    """The codes that occur; 0 is a cell that is no target."""
    index: Int[Tensor, "batch query key"]
    """Which of `codes` each cell has."""
    seen: Bool[Tensor, "batch query key"]
    """Which keys each row sees; none in padded rows."""
    member: Bool[Tensor, "code rule"]
    """Whether a code holds a rule."""

    @classmethod
    def of(cls, batch: ActivationBatch, rules: Sequence[str], *, causal: bool) -> "Cells":
        """The targets of `rules` in the texts of a batch; padding and, if causal, later keys are no targets."""
        size = batch.mask.shape[1]
        code = np.zeros((len(batch.texts), size, size), dtype=np.int64)
        seen = np.zeros_like(code, dtype=bool)
        for row, tokenized in enumerate(batch.texts):
            text, n = Text(tokenized.strings, tokenized.classes), len(tokenized)
            for bit, rule in enumerate(rules):
                code[row, :n, :n] |= rule_named(rule)(text).astype(np.int64) << bit
            seen[row, :n, :n] = True
        if causal:
            code, seen = np.tril(code), np.tril(seen)
        # Hashing, not sorting: there are few codes and millions of cells
        index, found = pd.factorize(code.ravel())
        codes = np.asarray(found)
        member = (codes[:, None] >> np.arange(len(rules))) & 1 > 0
        return cls(
            torch.from_numpy(codes),
            torch.from_numpy(index).reshape(code.shape),
            torch.from_numpy(seen),
            torch.from_numpy(member),
        )

    def per_code(self, weight: Float[Tensor, "batch query"]) -> Float[Tensor, "batch code"]:
        """The sum over cells of each code of a weight that cells share with their row."""
        flat = rearrange(self.index, "batch query key -> batch (query key)")
        spread = rearrange(weight[:, :, None].expand(self.index.shape), "batch query key -> batch (query key)")
        return torch.zeros(len(flat), len(self.codes), dtype=weight.dtype).scatter_add_(1, flat, spread)
