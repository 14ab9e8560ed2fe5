"""Small graphs of samples: points of SVG lines. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

WIDTH, HEIGHT = 60, 16
_POINTS = 30


class Graph(NamedTuple):
    """Points of a line in a field of 60 by 16, the text of the newest sample, and of the limit; empty without one."""

    points: str
    now: str
    limit: str
    is_near: bool
    """True if the newest sample is above nine tenths of the limit."""


def graph(
    samples: Sequence[float], limit: float | None, describe: Callable[[int], str], limit_text: str | None
) -> Graph | None:
    """Return the graph of samples, the newest last; None if there is none. Its top is the limit, or the largest."""
    if not samples:
        return None
    newest = samples[-1]
    top = limit or max(samples)
    return Graph(
        _line(tuple(samples[-2 * _POINTS :]), float(top or 1)),
        describe(int(newest)),
        limit_text or "",
        limit is not None and newest > 0.9 * limit,
    )


def short_size(size: int) -> str:
    """Return a number of bytes as limits are written, such as 512M or 1.5G."""
    return f"{size / 1024**3:.1f}G".replace(".0G", "G") if size >= 1024**3 else f"{size // 1024**2}M"


@lru_cache(maxsize=1_000)
def _line(samples: tuple[float, ...], top: float) -> str:
    """Return the points of a line, of each pair of samples the larger one: samples change every ten seconds only."""
    pairs = [max(samples[at : at + 2]) for at in range(0, len(samples), 2)]
    step = WIDTH / max(1, _POINTS - 1)
    first = WIDTH - step * (len(pairs) - 1)
    heights = [HEIGHT - 1 - (HEIGHT - 2) * min(1.0, value / top) for value in pairs]
    points = [(first + step * at, height) for at, height in enumerate(heights)]
    if len(points) == 1:  # A line has two ends.
        points.insert(0, (points[0][0] - step, points[0][1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
