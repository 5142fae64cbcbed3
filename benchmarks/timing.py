"""Timing contenders in turn, so that a machine that speeds up or slows down does so for all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Median seconds of one contender, and its median ratio to the reference, round by round."""

    seconds: float
    ratio: float
    spread: tuple[float, float]
    """Lower and upper quartile of the ratio."""


def measure(
    contenders: Mapping[str, Callable[[], object]], *, reference: str, rounds: int = 15, warmup: int = 2
) -> dict[str, Timing]:
    """Run every contender once a round; ratios are reference / contender (below 1: the reference is faster)."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_index in range(warmup + rounds):
        names = list(contenders)
        # Rotated, so that no contender always runs behind the same neighbour.
        shift = round_index % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            contenders[name]()
            elapsed = time.perf_counter() - start
            if round_index >= warmup:
                seconds[name].append(elapsed)
    timings = {}
    for name, values in seconds.items():
        ratios = sorted(ours / theirs for ours, theirs in zip(seconds[reference], values, strict=True))
        quartiles = statistics.quantiles(ratios, n=4)
        timings[name] = Timing(statistics.median(values), statistics.median(ratios), (quartiles[0], quartiles[2]))
    return timings


def markdown(title: str, reference: str, timings: Mapping[str, Timing]) -> str:
    """A table of medians in milliseconds and ratios `reference / contender` with their quartiles."""
    lines = [
        f"### {title}",
        "",
        f"| contender | median ms | {reference} / contender | quartiles |",
        "|---|---|---|---|",
    ]
    for name, timing in timings.items():
        low, high = timing.spread
        lines.append(f"| {name} | {timing.seconds * 1e3:.1f} | {timing.ratio:.2f} | {low:.2f} to {high:.2f} |")
    return "\n".join([*lines, ""])
