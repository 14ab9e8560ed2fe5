"""Outputs that the pages show, read from them and compared with what the program prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("agents", "messages", "nixos", "operating"))]
PAGES += sorted(page for page in (ROOT / "docs").glob("*.md") if page not in PAGES)
"""All pages; the first ones in the order in which a reader follows them, on which the numbers of messages depend."""

_VARYING = [
    # As many lines as there are changes while a command waits.
    (r"(?m)(?:^\w+: process \w+, harness \w+.*\n)+", ""),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"(?m)^\d\d:\d\d:\d\d\b", "TIME"),
    (r"(?m)^Date: .*", "DATE"),
    (r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b|\b[0-9a-f]{7}\b", "ID"),
    (r"\b\d+(\.\d+)? (s|min|h)\b", "N s"),
    (r"N s ago|just now", "AGO"),
    (r"[\d.]+ .iB, agents: \d+, files: \d+", "SIZE, agents: N, files: N"),
    (r"(?<=127\.0\.0\.1:)\d+", "PORT"),
    (r"(?<=-L )\d+:127.0.0.1:\w+", "PORTS"),
    (r"(?<=process )\d+|(?<=\"pid\": )\d+", "PID"),
    (r"(?m)^(Database +)[\d.]+ .iB of", r"\1SIZE of"),
    (r"git is \d[\d.]+", "git is VERSION"),
    (r" +", " "),
    (r"(?m) $", ""),
]
"""Patterns of texts that differ from run to run, and their placeholders."""


@dataclass(frozen=True)
class Shown:
    """A command after a prompt `$`, and the lines below it."""

    page: Path
    command: str
    output: str

    def differs(self, printed: str) -> str:
        """Both texts if the program prints something else than the page shows, otherwise nothing."""
        if fits(self.output, printed):
            return ""
        return f"{self.page.name}: $ {self.command}\n--- shown\n{self.output}\n--- printed\n{printed}"


def shown_outputs(page: Path) -> list[Shown]:
    """The commands with an output, in the order of the page."""
    return [shown for shown in _commands(page) if shown.output.strip()]


def blocks(page: Path) -> list[str]:
    """The contents of the fenced blocks."""
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def _commands(page: Path) -> Iterator[Shown]:
    for block in blocks(page):
        for found in re.finditer(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            yield Shown(page, found[1], found[2])


def plain(text: str) -> str:
    """The text with the same words wherever it differs from run to run."""
    for pattern, word in _VARYING:
        text = re.sub(pattern, word, text)
    return text.strip()


def fits(shown: str, printed: str) -> bool:
    """Return True if the shown text is what was printed. `...`, also in brackets, stands for any text."""
    parts = re.split(r"\[\.\.\.\]|\.\.\.", plain(shown))
    return re.fullmatch(".*".join(map(re.escape, parts)), plain(printed), re.DOTALL) is not None
