"""The record of a soak: what was done and how often, what broke, and how long answers took."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from tests.benchmarks.figure import percentile


def say(text: str) -> None:
    """Write a line of progress to the standard error."""
    sys.stderr.write(f"soak: {text}\n")
    sys.stderr.flush()


class Record:
    """Counts of what was done, by kind and outcome; the faults that were found, each kind of them once."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.faults: dict[str, int] = {}
        self.left_out: dict[str, str] = {}
        """Kinds that cannot be tried here, with the reason."""
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def did(self, kind: str, outcome: str = "done") -> None:
        """Count something that was done, by its outcome."""
        self._counts[kind][outcome] += 1

    def count(self, kind: str) -> int:
        """Return how often `kind` was done, with any outcome."""
        return self._counts[kind].total()

    def took(self, kind: str, seconds: float) -> None:
        """Remember how long something took."""
        self._seconds[kind].append(seconds)

    def fault(self, text: str) -> None:
        """Remember a broken promise; the first of each kind is told at once."""
        if text not in self.faults:
            say(f"{self.minutes:.1f} min: FAULT: {text}")
        self.faults[text] = self.faults.get(text, 0) + 1

    @property
    def minutes(self) -> float:
        """The age of the soak."""
        return (time.monotonic() - self.began) / 60

    def progress(self) -> str:
        """Return one line: the counts so far."""
        counts = ", ".join(f"{kind} {outcomes.total():,}" for kind, outcomes in self._counts.items())
        return f"{self.minutes:.0f} min: {counts}; faults: {len(self.faults)}"

    def table(self) -> str:
        """Return everything that was done, what was left out, and the faults, in columns of plain text."""
        lines = [f"{'kind':24} {'times':>9}  outcomes"]
        for kind, outcomes in self._counts.items():
            told = ", ".join(f"{outcome} {count:,}" for outcome, count in outcomes.most_common())
            lines.append(f"{kind:24} {outcomes.total():>9,}  {told}")
        for kind, seconds in self._seconds.items():
            told = (
                f"median {percentile(seconds, 0.5):.3f}, p99 {percentile(seconds, 0.99):.3f}, most {max(seconds):.3f}"
            )
            lines.append(f"{kind:24} {len(seconds):>9,}  seconds: {told}")
        lines += [f"{kind:24} {'left out':>9}  {why}" for kind, why in self.left_out.items()]
        lines += [f"{'FAULT':24} {count:>9,}  {text}" for text, count in self.faults.items()]
        return "\n".join(lines)


Say = Callable[[str], None]
