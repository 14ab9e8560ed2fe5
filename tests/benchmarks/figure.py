"""One measured figure: its samples, the reference's in the same run, the bound, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Bound:
    """A limit on the median, on its ratio to the reference's median, or on its difference from that."""

    sense: Literal["at least", "at most"]
    limit: float
    of: Literal["value", "ratio", "difference"]

    def met_by(self, measured: float) -> bool:
        """Whether `measured` keeps to the limit."""
        return measured >= self.limit if self.sense == "at least" else measured <= self.limit


@dataclass(frozen=True)
class Figure:
    """One line of the result. `reference` holds as many samples if its rounds were interleaved with ours.

    Without samples `why_not` says why nothing could be measured.
    """

    what: str
    unit: str
    samples: Sequence[float]
    reference: Sequence[float] = field(default=())
    reference_name: str = ""
    bound: Bound | None = None
    why_not: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None

    @property
    def ratio(self) -> float | None:
        """Median over the reference's median."""
        median, beside = self._medians
        return None if median is None or not beside else median / beside

    @property
    def difference(self) -> float | None:
        """Median less the reference's median."""
        median, beside = self._medians
        return None if median is None or beside is None else median - beside

    @property
    def _medians(self) -> tuple[float | None, float | None]:
        return self.median, statistics.median(self.reference) if self.reference else None

    @property
    def ratios(self) -> list[float]:
        """The ratio in each pair of rounds; empty when rounds were not paired."""
        if len(self.samples) != len(self.reference) or not all(self.reference):
            return []
        return [ours / theirs for ours, theirs in zip(self.samples, self.reference, strict=True)]

    @property
    def differences(self) -> list[float]:
        """The difference in each pair of rounds; empty when rounds were not paired."""
        if len(self.samples) != len(self.reference):
            return []
        return [ours - theirs for ours, theirs in zip(self.samples, self.reference, strict=True)]

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        measured = {"value": self.median, "ratio": self.ratio, "difference": self.difference}[self.bound.of]
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
            "difference": self.difference,
            "differences": self.differences,
            "bound": None if self.bound is None else f"{self.bound.of} {self.bound.sense} {self.bound.limit:g}",
            "met": self.met,
            "why_not": self.why_not,
        }


def percentile(samples: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the samples lie, by the nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


_TITLES = (
    "figure",
    "median (min to max)",
    "reference (min to max)",
    "ratio or difference (min to max)",
    "bound",
    "met",
)


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns of plain text."""
    rows = [_TITLES, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _row(figure: Figure) -> tuple[str, ...]:
    bound = figure.bound
    return (
        figure.what,
        _with_spread(figure.samples, figure.unit) if figure.samples else f"not measured: {figure.why_not}",
        f"{figure.reference_name}: {_with_spread(figure.reference, figure.unit)}" if figure.reference else "",
        _beside(figure),
        "" if bound is None else _limit(bound, figure.unit),
        {True: "yes", False: "NO", None: ""}[figure.met],
    )


def _beside(figure: Figure) -> str:
    """How it compares with the reference, in the way that the bound does."""
    difference, ratio = figure.difference, figure.ratio
    if figure.bound is not None and figure.bound.of == "difference" and difference is not None:
        found = figure.differences
        spread = f" ({min(found):+.2f} to {max(found):+.2f})" if len(found) > 1 else ""
        return f"{difference:+.2f} {figure.unit}{spread}"
    if ratio is None:
        return ""
    ratios = figure.ratios
    return f"{ratio:.2f}" + (f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else "")


def _limit(bound: Bound, unit: str) -> str:
    match bound.of:
        case "value":
            return f"{bound.sense} {bound.limit:g} {unit}"
        case "ratio":
            return f"{bound.sense} {bound.limit:g} x"
        case "difference":
            return f"{bound.sense} reference {bound.limit:+g} {unit}"


def _with_spread(samples: Sequence[float], unit: str) -> str:
    middle = f"{_short(statistics.median(samples))} {unit}"
    return middle if len(samples) == 1 else f"{middle} ({_short(min(samples))} to {_short(max(samples))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.3g}"
