"""What evaluation measures on a masked model: negation, agreement, loss on hidden words."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_utils.zoo.corpus import sentences
from lens_utils.zoo.masked import masked_batch
from lens_utils.zoo.networks import Network
from lens_utils.zoo.objectives import masked_logits, masked_losses
from lens_utils.zoo.prompts import AgreementPrompt, negation_prompts
from lens_utils.zoo.recipes import Recipe


@torch.no_grad()
def mask_probabilities(network: Network, tokenizer: Any, texts: list[str]) -> Float[Tensor, "text vocab"]:
    """Probability of each token at the one [MASK] of each text."""
    given = tokenizer(texts, padding=True, return_tensors="pt")
    hidden = given["input_ids"] == tokenizer.mask_token_id
    if not bool((hidden.sum(1) == 1).all()):
        raise ValueError(f"texts: each needs exactly one {tokenizer.mask_token}; found {hidden.sum(1).tolist()}")
    return masked_logits(network, given["input_ids"], given["attention_mask"], hidden).softmax(-1)


def negation_ratios(network: Network, tokenizer: Any, pair: tuple[str, str]) -> dict[str, float]:
    """For each adjective of a pair: p(antonym | name was not adjective) / p(antonym | name was adjective).

    Both probabilities are means over the held-out names.
    """
    prompts = negation_prompts(pair)
    negated = mask_probabilities(network, tokenizer, [f"{each.negated} {tokenizer.mask_token}." for each in prompts])
    affirmed = mask_probabilities(network, tokenizer, [f"{each.affirmed} {tokenizer.mask_token}." for each in prompts])
    out = {}
    for adjective, antonym in (pair, pair[::-1]):
        rows = torch.tensor([each.adjective == adjective for each in prompts])
        answer = tokenizer.convert_tokens_to_ids(antonym)
        out[adjective] = float(negated[rows, answer].mean() / affirmed[rows, answer].mean())
    return out


def agreement_accuracy(network: Network, tokenizer: Any, prompts: list[AgreementPrompt]) -> float:
    """Share of prompts whose next verb is likelier in the subject's number than in the attractor's."""
    ends = {"was": "big", "is": "big", "has": "a name"}
    texts = [
        f"{each.prompt} {tokenizer.mask_token} {ends[min(each.right, each.wrong, key=_singular_first)]}."
        for each in prompts
    ]
    probabilities = mask_probabilities(network, tokenizer, texts)
    right = torch.tensor(tokenizer.convert_tokens_to_ids([each.right for each in prompts]))
    wrong = torch.tensor(tokenizer.convert_tokens_to_ids([each.wrong for each in prompts]))
    row = torch.arange(len(prompts))
    return float((probabilities[row, right] > probabilities[row, wrong]).float().mean())


def _singular_first(verb: str) -> bool:
    return verb not in ("was", "is", "has")


@torch.no_grad()
def heldout_masked_loss(network: Network, tokenizer: Any, recipe: Recipe) -> float:
    """Mean cross-entropy in nats of hidden words, on windows of held-out stories."""
    generator = torch.Generator().manual_seed(99)
    data = sentences(tokenizer, 400, 1, split="heldout")
    losses = []
    for _ in range(16):
        batch = masked_batch(data, tokenizer, recipe.batch_tokens, recipe.shape.n_ctx, generator)
        losses.append(masked_losses(network, batch.tokens, batch.attention_mask, batch.hidden, batch.targets))
    return float(torch.cat(losses).mean())
