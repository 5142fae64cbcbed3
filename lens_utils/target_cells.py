"""The cells [query, key] of a batch of texts, sorted by the rules whose targets they are: one pass serves all rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_utils.activations import ActivationBatch
from lens_utils.target_rules import rule_named
from lens_utils.text_structure import Text


@dataclass(frozen=True)
class Cells:
    """Each cell has a code: one bit a rule, set where the cell is its target."""

    index: Int[Tensor, "batch query key"]
    """Which code each cell has."""
    seen: Bool[Tensor, "batch query key"]
    """Which keys each row sees; none in padded rows."""
    member: Bool[Tensor, "code rule"]
    """Whether a code holds a rule; a code may hold none."""

    @classmethod
    def of(cls, batch: ActivationBatch, rules: Sequence[str], *, causal: bool) -> "Cells":
        """The targets of `rules` in the texts of a batch; padding and, if causal, later keys are no targets."""
        size = batch.mask.shape[1]
        # Half the width is half the time; the sign is left alone
        kind = np.int32 if len(rules) < 31 else np.int64
        code = np.zeros((len(batch.texts), size, size), dtype=kind)
        seen = np.zeros_like(code, dtype=bool)
        for row, tokenized in enumerate(batch.texts):
            text, n = Text(tokenized.strings, tokenized.classes), len(tokenized)
            for bit, rule in enumerate(rules):
                code[row, :n, :n] |= rule_named(rule)(text) * kind(1 << bit)
            seen[row, :n, :n] = True
        if causal:
            code, seen = np.tril(code), np.tril(seen)
        # Hashing, not sorting: there are few codes and millions of cells
        index, found = pd.factorize(code.ravel())
        codes = np.asarray(found)
        member = (codes[:, None] >> np.arange(len(rules))) & 1 > 0
        return cls(
            torch.from_numpy(index).reshape(code.shape),
            torch.from_numpy(seen),
            torch.from_numpy(member),
        )

    @property
    def n_codes(self) -> int:
        """Number of codes that occur."""
        return len(self.member)

    def by_row(self) -> Float[Tensor, "batch query code"]:
        """How many keys of each row have each code."""
        counts = torch.zeros(*self.index.shape[:2], self.n_codes)
        return counts.scatter_add_(2, self.index, torch.ones(()).expand(self.index.shape))

    def by_distance(self) -> Float[Tensor, "code distance"]:
        """How many seen cells of each code lie at each distance key - query, from -(n - 1) to n - 1."""
        n = self.index.shape[-1]
        offset = torch.arange(n) - torch.arange(n)[:, None] + n - 1
        place = (self.index * (2 * n - 1) + offset)[self.seen]
        return torch.bincount(place, minlength=self.n_codes * (2 * n - 1)).view(self.n_codes, -1).float()
