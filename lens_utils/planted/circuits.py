"""Two-layer circuits written by formula: how one head's output is read by another's queries, keys or values."""

from lens_utils.planted.heads import induction_head, null_head, previous_token_head
from lens_utils.planted.model import HIT, PlantedHead, PlantedModel, PlantedShape, Rule


def induction_model(vocab: int = 9, n_ctx: int = 17, *, heads: int = 2) -> PlantedModel:
    """Head 0.0 attends to the previous token, head 1.0 is an induction head that reads it with its keys.

    All other heads are null. K-composition of the two is 1/sqrt(vocab), Q- and V-composition are 0.
    """
    shape = PlantedShape(vocab, n_ctx)
    return _with_null_heads(shape, previous_token_head(shape), induction_head(shape), heads, "planted-induction")


def q_composition_model(vocab: int = 9, n_ctx: int = 17, *, heads: int = 2) -> PlantedModel:
    """Head 1.0 reads head 0.0 with its queries: it attends to other occurrences of the previous token.

    Q-composition is 1/sqrt(vocab + 4 (n_ctx - 1)), where the second term is the rule that keeps the head from the
    previous position itself; K- and V-composition are 0.
    """
    shape = PlantedShape(vocab, n_ctx)
    reader = PlantedHead(
        qk=(Rule("A", "T", shape.identity(HIT)), Rule("P", "P", shape.offset(1, -2 * HIT))),
        ov=(Rule("T", "O", shape.identity()),),
    )
    return _with_null_heads(shape, previous_token_head(shape), reader, heads, "planted-q-composition")


def v_composition_model(vocab: int = 9, n_ctx: int = 17, *, heads: int = 2) -> PlantedModel:
    """Head 1.0 reads head 0.0 with its values: both attend to the previous token, so together they look two back.

    V-composition is 1/sqrt(vocab), Q- and K-composition are 0; the virtual head's pattern is 1 from i to i - 2.
    """
    shape = PlantedShape(vocab, n_ctx)
    reader = PlantedHead(qk=(Rule("P", "P", shape.offset(1)),), ov=(Rule("A", "O", shape.identity()),))
    return _with_null_heads(shape, previous_token_head(shape), reader, heads, "planted-v-composition")


def _with_null_heads(
    shape: PlantedShape, first: PlantedHead, second: PlantedHead, heads: int, name: str
) -> PlantedModel:
    rest = (null_head(),) * (heads - 1)
    return PlantedModel(shape, ((first, *rest), (second, *rest)), name=name)
