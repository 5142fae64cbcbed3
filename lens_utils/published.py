"""Published activation statistics to compare with, and the verdict: equal to the printed precision or not."""

from dataclasses import dataclass

from lens_utils import hook_names
from lens_utils.activations import cache_hooks
from lens_utils.distributions import describe
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import MOON_PROMPT, tokenize_prompt
from lens_utils.quantities import standard_quantities

STATISTICS = ("mean", "sd", "minimum", "q1", "median", "q3", "maximum")
"""The published form, in its order."""

TINYSTORIES_1L_21M = "roneneldan/TinyStories-1Layer-21M"
TINYSTORIES_MOON = {
    hook_names.mlp_post(0): (-0.0483, 0.2245, -0.1700, -0.1525, -0.1033, -0.0296, 11.3458),
    hook_names.mlp_out(0): (0.0035, 0.6573, -2.2938, -0.2691, -0.0122, 0.2459, 55.2631),
    f"{hook_names.LN_FINAL_NORMALIZED} * w + b": (-0.0357, 1.4694, -7.1327, -0.9617, -0.0358, 0.8951, 14.2448),
}
"""Raw weights of TinyStories-1L-21M on MOON_PROMPT, four decimals; whether a beginning-of-text token stood in front is
not said."""
HALF_LAST_DIGIT = 0.00005


@dataclass(frozen=True)
class Verdict:
    """One published number beside ours."""

    label: str
    special_tokens: bool
    """Whether ours was measured with a beginning-of-text token in front."""
    statistic: str
    published: float
    measured: float

    @property
    def passes(self) -> bool:
        """Whether they agree to the printed precision (plus float32 rounding of 1e-5 relative)."""
        return abs(self.published - self.measured) <= HALF_LAST_DIGIT + 1e-5 * abs(self.published)


def moon_verdicts(model: HookedTransformer) -> tuple[Verdict, ...]:
    """The published figures beside ours, with and without a beginning-of-text token; none for another model.

    The model is recognised by its provenance (hub id).
    """
    if str(getattr(model.provenance, "location", "")).lower() != TINYSTORIES_1L_21M.lower():
        return ()
    quantities = [quantity for quantity in standard_quantities(model)[0] if quantity.label in TINYSTORIES_MOON]
    found = []
    for special in (True, False):
        text = tokenize_prompt(model, MOON_PROMPT, prepend_bos=special)
        batch = cache_hooks(model, [text], [quantity.hook for quantity in quantities])
        for quantity in quantities:
            ours = describe(quantity.of(batch))
            for name, number in zip(STATISTICS, TINYSTORIES_MOON[quantity.label], strict=True):
                found.append(Verdict(quantity.label, special, name, number, getattr(ours, name)))
    return tuple(found)
