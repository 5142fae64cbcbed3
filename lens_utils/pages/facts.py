"""What the pages say about a result, read from its manifest."""

import json
import math
from typing import Any

from lens_utils.pages.encode import humanised
from lens_utils.visible_text import visible

_IN_TABLES_OF_THEIR_OWN = ("tables", "identities", "figures", "summary", "command")


def result_facts(manifest: dict[str, Any], *, summary: str) -> dict[str, Any]:
    """The manifest as the templates show it: names, verdict, identities, command, and every further entry flat."""
    identities = [_identity(entry) for entry in manifest["identities"]]
    held = sum(entry["holds"] for entry in identities)
    run = manifest.get("run", {})
    return {
        "experiment": visible(manifest["experiment"]),
        "title": humanised(manifest["experiment"]),
        "model": visible(manifest["model"]["name"]),
        "summary": visible(summary),
        "command": visible(manifest["command"]),
        "identities": identities,
        "passed": held == len(identities),
        "verdict": _verdict(held, len(identities)),
        "tables": len(manifest.get("tables", {})),
        "figures": len(manifest.get("figures", {})),
        "started": visible(str(run.get("started", ""))[:16].replace("T", " ")),
        "seconds": _duration(run.get("seconds")),
        "entries": _flat({key: value for key, value in manifest.items() if key not in _IN_TABLES_OF_THEIR_OWN}),
    }


def unreadable(experiment: str, model: str) -> dict[str, Any]:
    """What the index says about a result whose manifest is damaged."""
    blank = {"summary": "", "started": "", "seconds": "", "tables": 0, "figures": 0}
    names = {"experiment": visible(experiment), "title": humanised(experiment), "model": visible(model)}
    return blank | names | {"passed": False, "verdict": "manifest cannot be read"}


def _identity(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": visible(entry["name"]),
        "statement": visible(entry["statement"]),
        "error": _number(entry["error"]),
        "tolerance": _number(entry["tolerance"]),
        "holds": bool(entry["holds"]),
    }


def _number(value: float | None) -> str:
    return "not a number" if value is None or math.isnan(value) else f"{value:.3g}"


def _verdict(held: int, total: int) -> str:
    if not total:
        return "no identities"
    noun = "identity holds" if total == 1 else "identities hold"
    if held == total:
        return f"{held} {noun}" if total == 1 else f"all {held} {noun}"
    return f"{total - held} of {total} identities fail" if total > 1 else "identity fails"


def _duration(seconds: Any) -> str:
    if isinstance(seconds, dict):
        seconds = seconds.get("total", sum(seconds.values()))
    return "" if seconds is None else f"{float(seconds):.3g} s"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            row for key, item in value.items() for row in _flat(item, f"{prefix} \u203a {key}" if prefix else str(key))
        ]
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return [(visible(prefix), ", ".join(map(visible, value)) or "none")]
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(visible(prefix), visible(shown))]
