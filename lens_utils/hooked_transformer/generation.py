"""Continuing a text, one token at a time."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_utils.axes import Tokens
from lens_utils.hooked_transformer.text import TextMethods


class Generation(TextMethods):
    """Adds `generate` to a causal model."""

    @torch.no_grad()
    def generate(
        self,
        input: str | Tokens,
        max_new_tokens: int = 20,
        *,
        do_sample: bool = True,
        temperature: float = 1.0,
        top_k: int | None = None,
        stop_at_eos: bool = True,
        seed: int | None = None,
    ) -> str | Int[Tensor, "batch longer"]:
        """Continue a text (returns text) or tokens (returns tokens, prompt included) of a causal model.

        Samples at `temperature` among the `top_k` likeliest tokens, or takes the likeliest with `do_sample=False`.
        Stops when every row has produced the end-of-text token, and always at the context length.
        """
        if self.cfg.is_masked:
            raise ValueError(f"model {self.cfg.model_name!r} is masked (bidirectional): it cannot generate")
        if temperature <= 0:
            raise ValueError(f"temperature={temperature!r}: must be positive; do_sample=False takes the likeliest")
        tokens = self.to_tokens(input) if isinstance(input, str) else input
        generator = None if seed is None else torch.Generator(self.device).manual_seed(seed)
        eos = self.tokenizer.eos_token_id if self.tokenizer is not None and stop_at_eos else None
        finished = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        for _ in range(min(max_new_tokens, self.cfg.n_ctx - tokens.shape[1])):
            logits = self(tokens, logit_positions=[tokens.shape[1] - 1])[:, 0]
            new = _choose(logits, do_sample, temperature, top_k, generator)
            if eos is not None:
                new = torch.where(finished, eos, new)
                finished = finished | (new == eos)
            tokens = torch.cat([tokens, new[:, None]], dim=1)
            if finished.all():
                break
        if not isinstance(input, str):
            return tokens
        return self._require_tokenizer().decode(tokens[0].tolist(), skip_special_tokens=True)


def _choose(
    logits: Float[Tensor, "batch vocab"],
    do_sample: bool,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Int[Tensor, "batch"]:
    if not do_sample:
        return logits.argmax(-1)
    if top_k is not None:
        lowest_kept = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < lowest_kept, -torch.inf)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(-1)
