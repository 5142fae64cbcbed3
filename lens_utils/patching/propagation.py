"""From changed rows of the residual stream to the metric, computing only what can have changed.

A block is run for the positions from the first changed one to the end alone: in a decoder earlier keys and values are
those of the base run. Where only one position enters a block changed, its queries, keys and values are the only new
ones. In the last block only the query at the end counts. Logits are computed for the answer tokens only, if the metric
allows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lens_utils import hook_names, metrics
from lens_utils.hooked_transformer import HookedTransformer
from lens_utils.hooked_transformer.components import project
from lens_utils.metrics import Metric
from lens_utils.patching.changes import Change
from lens_utils.patching.runs import Run
from lens_utils.prompt_pairs import PromptPair

Qkv = tuple[Tensor, Tensor, Tensor]


class Judge:
    """The metric of rows of the residual stream at the end position."""

    def __init__(self, model: HookedTransformer, pairs: Sequence[PromptPair], metric: Metric, clean: Run) -> None:
        self.model = model
        self.metric: Metric = metric
        self.answers = torch.tensor([pair.answer for pair in pairs], device=model.device)
        self.wrong = torch.tensor([pair.wrong for pair in pairs], device=model.device)
        w_u, b_u = model.W_U, model.b_U
        self.direction = (w_u[:, self.answers] - w_u[:, self.wrong]).T.contiguous()
        self.offset = b_u[self.answers] - b_u[self.wrong]
        self.reference = self.logits(at_end(clean)) if metric == "kl" else None

    @torch.inference_mode()
    def __call__(self, resid: Float[Tensor, "row d_model"], pair: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """The metric of each row, which belongs to prompt pair `pair`."""
        if self.metric == "logit_diff":
            return (self._read(resid) * self.direction[pair]).sum(-1) + self.offset[pair]
        logits = self.logits(resid)
        if self.reference is None:
            return metrics.loss(logits, self.answers[pair])
        return metrics.kl(logits, self.reference[pair])

    @torch.inference_mode()
    def logits(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Logits of every token."""
        return self.model.unembed(self._read(resid))

    def _read(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        return self.model.mlm_head(self.model.ln_final(resid))


def at_end(run: Run) -> Float[Tensor, "pair d_model"]:
    """The last residual stream at each prompt's end."""
    return run.last[torch.arange(len(run.ends), device=run.last.device), run.ends]


@torch.inference_mode()
def propagate(run: Run, change: Change) -> Float[Tensor, "row d_model"]:
    """The last residual stream at the end position of every row."""
    n_layers, resid, positions = run.model.cfg.n_layers, change.resid, change.positions
    for layer in range(change.layer, n_layers):
        resid, positions = _through(run, layer, Change(layer, change.pair, positions, resid))
    ends = run.ends[change.pair]
    if positions.shape[1] == 1:
        return resid[:, 0]
    return resid[torch.arange(len(ends), device=resid.device), ends - positions[0, 0]]


def _through(run: Run, layer: int, change: Change) -> tuple[Tensor, Int[Tensor, "row width"]]:
    """The block's output, and where its rows stand."""
    block = run.model.blocks[layer]
    ends, last = run.ends[change.pair], layer == run.model.cfg.n_layers - 1
    if not run.model.cfg.is_masked:
        first, stop = int(change.positions.min()), int(ends.max()) + 1
    else:
        first, stop = 0, run.n_pos
    after = ends[:, None] if last else torch.arange(first, stop, device=ends.device).expand(len(ends), -1)
    q, k, v = queries_keys_values(run, layer, change.resid, change.positions)
    keys, values = (_placed(run, name, layer, change, new, stop) for name, new in (("k", k), ("v", v)))
    queries = _at(run.cache[hook_names.q(layer)], change, q, after)
    resid = _at(run.entering(layer), change, change.resid, after)
    z = block.attn.fused_z(queries, keys, values, _visible(run, layer, change.pair, after, stop))
    return block.after_attention(resid + block.attn.write(z)), after


def queries_keys_values(
    run: Run, layer: int, resid: Float[Tensor, "row width d_model"], positions: Int[Tensor, "row width"]
) -> Qkv:
    """What a block's heads make of rows of the residual stream; [row, width, head, d_head] each."""
    block = run.model.blocks[layer]
    norm = nn.Identity() if block.post_norm else block.ln1
    read = beside = norm(resid)
    if run.model.cfg.positional_embedding_type == "shortformer":
        beside = read + run.model.W_pos[positions]
    attn = block.attn
    return project(beside, attn.W_Q, attn.b_Q), project(beside, attn.W_K, attn.b_K), project(read, attn.W_V, attn.b_V)


def _placed(run: Run, name: str, layer: int, change: Change, new: Tensor, stop: int) -> Tensor:
    """Keys or values of all positions before `stop`, the changed ones in their places."""
    own = run.cache[{"k": hook_names.k, "v": hook_names.v}[name](layer)]
    if new.shape[1] == 1:
        whole = own[change.pair, :stop]
        whole[torch.arange(len(whole), device=whole.device), change.positions[:, 0]] = new[:, 0]
        return whole
    first = int(change.positions[0, 0])
    tail = new[:, : stop - first]
    behind = own[change.pair, first + tail.shape[1] : stop]
    return torch.cat([own[change.pair, :first], tail, behind], dim=1)


def _at(own: Tensor, change: Change, new: Tensor, wanted: Int[Tensor, "row width"]) -> Tensor:
    """Rows at the wanted positions: the changed ones where there are such, else those of the base run."""
    first, rows = int(change.positions[0, 0]), torch.arange(len(wanted), device=wanted.device)
    if new.shape[1] > 1:
        # A window reaches to the last end, so that every wanted position lies in it
        same = wanted.shape == change.positions.shape and first == int(wanted[0, 0])
        return new if same else new[rows[:, None], wanted - first]
    whole = own[change.pair[:, None], wanted]
    there = wanted == change.positions
    whole[there] = new[:, 0].repeat_interleave(there.sum(1), dim=0)
    return whole


def _visible(run: Run, layer: int, pair: Int[Tensor, " row"], queries: Int[Tensor, "row width"], stop: int) -> Tensor:
    seen = run.visible(layer)[:, :, :, :stop]
    if len(seen) > 1:
        return seen[pair[:, None], 0, queries][:, None]
    return seen[0, 0][queries[:1] if queries.shape[1] > 1 else queries][:, None]
