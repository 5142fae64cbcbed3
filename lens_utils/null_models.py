"""Models and texts without what is to be found: what a measurement reads where there is nothing."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.prompts import TokenizedText


def shuffled_weights(model: HookedTransformer, *, seed: int) -> HookedTransformer:
    """The same shape, and in every weight tensor the same numbers in another order: every norm is kept."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, weight in model.state_dict().items():
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        state[name] = weight.detach().flatten()[order].reshape(weight.shape)
    null = HookedTransformer(model.cfg, model.tokenizer, init_weights=False)
    null.load_state_dict(state)
    return null.to(model.device).eval()


def shuffled_texts(texts: Sequence[TokenizedText], *, seed: int) -> tuple[TokenizedText, ...]:
    """Each text with its tokens in random order, special tokens left in place: content without structure."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = []
    for text in texts:
        places = torch.tensor([i for i, name in enumerate(text.classes) if name != "special"], dtype=torch.long)
        order = torch.arange(len(text))
        order[places] = places[torch.randperm(len(places), generator=generator)]
        picked = order.tolist()
        strings, classes = (tuple(each[i] for i in picked) for each in (text.strings, text.classes))
        shuffled.append(replace(text, tokens=text.tokens[order], strings=strings, classes=classes))
    return tuple(shuffled)
