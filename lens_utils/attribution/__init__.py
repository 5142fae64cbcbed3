"""Direct logit attribution: the logit of a token, or a difference, as the sum of what each part of a model adds.

Everything between a part and the logits that is not linear is held at its value in the run: LayerNorm's denominators,
and the non-linearity of a masked-language-model head as a gate act(h) / h. What then remains is linear, so the parts
sum to the logit exactly. Later heads and MLPs are parts of their own: only the skip path carries earlier parts.
"""

from lens_utils.attribution.aims import Aim, NullAims, aim_of, null_aims
from lens_utils.attribution.frozen import FrozenRead, freeze, frozen_hooks
from lens_utils.attribution.lens import Lens, logit_lens
from lens_utils.attribution.parts import Parts, decompose, neuron_parts, source_attention, source_parts
from lens_utils.attribution.questions import Question, Target, check_target, from_pairs, from_prompts
from lens_utils.attribution.readout import ReadVectors, read_vectors
from lens_utils.attribution.study import AttributionStudy, Contributions, study_attribution

__all__ = [
    "Aim",
    "AttributionStudy",
    "Contributions",
    "FrozenRead",
    "Lens",
    "NullAims",
    "Parts",
    "Question",
    "ReadVectors",
    "Target",
    "aim_of",
    "check_target",
    "decompose",
    "freeze",
    "from_pairs",
    "from_prompts",
    "frozen_hooks",
    "logit_lens",
    "neuron_parts",
    "null_aims",
    "read_vectors",
    "source_attention",
    "source_parts",
    "study_attribution",
]
