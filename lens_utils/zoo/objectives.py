"""What each kind of model is trained on: a function from the step to the loss of its batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import BertForMaskedLM, DistilBertForMaskedLM, PreTrainedTokenizerFast

from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.zoo.corpus import causal_rows, sentences
from lens_utils.zoo.drills import drill_batch, drills
from lens_utils.zoo.masked import masked_batch
from lens_utils.zoo.networks import Network
from lens_utils.zoo.recipes import Recipe

Objective = Callable[[int], Tensor]


def objective(
    network: Network, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, generator: torch.Generator
) -> Objective:
    """The objective of a recipe, on the corpus it names."""
    if recipe.masked:
        return _masked(network, tokenizer, recipe, generator)
    if recipe.repeat_share:
        from lens_utils.zoo.induction_course import course

        return course(network, tokenizer, recipe, generator)
    rows = causal_rows(tokenizer, recipe.n_stories, recipe.corpus_seed, n_ctx=recipe.shape.n_ctx)
    size = recipe.batch_tokens // recipe.shape.n_ctx

    def loss_at(step: int) -> Tensor:
        return causal_losses(network, pick_rows(rows, size, generator)).mean()

    return loss_at


def pick_rows(rows: Int[Tensor, "row pos"], n: int, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
    """n random rows."""
    return rows[torch.randint(0, len(rows), (n,), generator=generator)]


def causal_logits(network: Network, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
    """Next-token logits of a model of either kind."""
    return network(tokens) if isinstance(network, HookedTransformer) else network(tokens, use_cache=False).logits


def causal_losses(network: Network, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos-1"]:
    """Next-token cross-entropy in nats at every position but the last."""
    logits = causal_logits(network, tokens)[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")


def masked_losses(
    network: Network,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"],
    hidden: Tensor,
    targets: Int[Tensor, "hidden"],
) -> Float[Tensor, "hidden"]:
    """Cross-entropy in nats of the hidden words; logits are computed at those positions only."""
    return F.cross_entropy(masked_logits(network, tokens, attention_mask, hidden), targets, reduction="none")


def masked_logits(
    network: Network, tokens: Int[Tensor, "batch pos"], attention_mask: Int[Tensor, "batch pos"], hidden: Tensor
) -> Float[Tensor, "hidden vocab"]:
    """Logits of a masked model at the hidden positions, row by row."""
    if isinstance(network, BertForMaskedLM):
        return network.cls(network.bert(tokens, attention_mask=attention_mask).last_hidden_state[hidden])
    if isinstance(network, DistilBertForMaskedLM):
        resid = network.distilbert(tokens, attention_mask=attention_mask).last_hidden_state[hidden]
        return network.vocab_projector(network.vocab_layer_norm(network.activation(network.vocab_transform(resid))))
    raise ValueError(f"network is a {type(network).__name__}; choose a BertForMaskedLM or a DistilBertForMaskedLM")


def _masked(
    network: Network, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, generator: torch.Generator
) -> Objective:
    data = sentences(tokenizer, recipe.n_stories, recipe.corpus_seed)
    practice = drills(tokenizer, recipe.n_stories, recipe.corpus_seed)

    def loss_at(step: int) -> Tensor:
        if step % recipe.drill_every == 0:
            batch = drill_batch(practice, tokenizer, recipe.batch_tokens // 2, generator)
        else:
            batch = masked_batch(data, tokenizer, recipe.batch_tokens, recipe.shape.n_ctx, generator)
        return masked_losses(network, batch.tokens, batch.attention_mask, batch.hidden, batch.targets).mean()

    return loss_at
