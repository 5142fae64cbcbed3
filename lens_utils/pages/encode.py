"""Names, numbers and tokens on their way into a page: rounded, nan as null, unable to end the script they sit in."""

import base64
import json
import math
from typing import Any

import numpy as np
from markupsafe import Markup

from lens_utils.visible_text import visible

SIGNIFICANT = 5
ARRAY_DIGITS = 4
_ACRONYMS = {"mlp": "MLP", "qk": "QK", "ov": "OV", "pca": "PCA", "kl": "KL", "dla": "DLA"}


def humanised(name: str) -> str:
    """A file or table name as a heading: `head_mlp_scores` is `Head MLP scores`."""
    words = " ".join(_ACRONYMS.get(word, word) for word in name.split("_"))
    return visible(words[:1].upper() + words[1:])


def json_for_page(value: Any) -> Markup:
    """`value` (from `plain` or `plain_figure`) as JSON that is safe inside a `<script type="application/json">`.

    `<` becomes `\\u003c`, so that no token can close the element; so do the two line separators.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in ("<", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def plain(value: Any) -> Any:
    """Nested arrays, tensors and numbers as JSON values; hidden characters in text are written out, line feeds
    both marked and kept.

    An array keeps `ARRAY_DIGITS` digits below its largest value (a pattern with values up to 1: 4 decimals).
    """
    if isinstance(value, str):
        return "\u21b5\n".join(visible(line) for line in value.split("\n"))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, np.ndarray):
        return _array(value)
    return _scalar(value)


def plain_figure(value: Any) -> Any:
    """A Plotly figure's dictionary as JSON values, `SIGNIFICANT` digits a number; text is left as it is."""
    if isinstance(value, dict):
        if "bdata" in value:
            return plain_figure(_decoded(value))
        return {str(key): plain_figure(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain_figure(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain_figure(item) for item in value]
    return value if isinstance(value, str) else _scalar(value)


def packed_cells(cells: Any, low: float, high: float) -> dict[str, Any]:
    """A heatmap's values as one byte each, in 254 steps from `low` to `high`, for site.js to unpack.

    Of each row, what lies behind its last value is left out (`widths`); 255 is a missing value before that.
    """
    values = np.asarray(cells, dtype=np.float64)
    finite = np.isfinite(values)
    step = (high - low) / 254 or 1.0
    codes = np.where(finite, np.rint(np.clip((np.where(finite, values, low) - low) / step, 0, 254)), 255).astype(
        np.uint8
    )
    widths = [int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in finite]
    text = b"".join(row[:width].tobytes() for row, width in zip(codes, widths, strict=True))
    sizes = {"columns": values.shape[1], "widths": widths}
    return {"packed": base64.b64encode(text).decode(), "low": low, "step": step} | sizes


def _decoded(packed: dict[str, Any]) -> np.ndarray:
    numbers = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=np.dtype(packed["dtype"]))
    shape = packed.get("shape")
    return numbers.reshape([int(size) for size in str(shape).split(",")]) if shape else numbers


def _array(values: np.ndarray) -> Any:
    if values.dtype.kind != "f":
        return plain(values.tolist())
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0))
    decimals = ARRAY_DIGITS - math.ceil(math.log10(largest)) if largest > 0 else 0
    # Rounding through float64 gives the short decimal; adding 0.0 drops minus zero.
    rounded = np.round(values.astype(np.float64), max(decimals, 0)) + 0.0
    return _without_nan(rounded.tolist())


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value if math.isfinite(value) else None


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{SIGNIFICANT}g}")
