"""One measured figure: its samples, the reference's in the same run, the bound, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Bound:
    """A limit on the median, or on its ratio to the reference's median."""

    sense: Literal["at least", "at most"]
    limit: float
    of: Literal["value", "ratio"]

    def met_by(self, measured: float) -> bool:
        """Whether `measured` keeps to the limit."""
        return measured >= self.limit if self.sense == "at least" else measured <= self.limit


@dataclass(frozen=True)
class Figure:
    """One line of the result. `reference` holds as many samples if its rounds were interleaved with ours."""

    what: str
    unit: str
    samples: Sequence[float]
    reference: Sequence[float] = field(default=())
    reference_name: str = ""
    bound: Bound | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """Median over the reference's median."""
        if not self.reference or not (beside := statistics.median(self.reference)):
            return None
        return self.median / beside

    @property
    def ratios(self) -> list[float]:
        """The ratio in each pair of rounds; empty when rounds were not paired."""
        if len(self.samples) != len(self.reference) or not all(self.reference):
            return []
        return [ours / theirs for ours, theirs in zip(self.samples, self.reference, strict=True)]

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        measured = self.median if self.bound.of == "value" else self.ratio
        return None if measured is None else self.bound.met_by(measured)

    def as_json(self) -> dict[str, object]:
        """Everything that was measured, for programs."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "samples": list(self.samples),
            "reference_name": self.reference_name,
            "reference": list(self.reference),
            "ratio": self.ratio,
            "ratios": self.ratios,
            "bound": None if self.bound is None else f"{self.bound.of} {self.bound.sense} {self.bound.limit:g}",
            "met": self.met,
        }


def percentile(samples: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the samples lie, by the nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


_TITLES = ("figure", "median (min to max)", "reference (min to max)", "ratio (min to max)", "bound", "met")


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns of plain text."""
    rows = [_TITLES, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _row(figure: Figure) -> tuple[str, ...]:
    ratio, ratios, bound = figure.ratio, figure.ratios, figure.bound
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    unit = f" {figure.unit}" if bound is not None and bound.of == "value" else " x"
    return (
        figure.what,
        _with_spread(figure.samples, figure.unit),
        f"{figure.reference_name}: {_with_spread(figure.reference, figure.unit)}" if figure.reference else "",
        "" if ratio is None else f"{ratio:.2f}{spread}",
        "" if bound is None else f"{bound.sense} {bound.limit:g}{unit}",
        {True: "yes", False: "NO", None: ""}[figure.met],
    )


def _with_spread(samples: Sequence[float], unit: str) -> str:
    middle = f"{_short(statistics.median(samples))} {unit}"
    return middle if len(samples) == 1 else f"{middle} ({_short(min(samples))} to {_short(max(samples))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.3g}"
