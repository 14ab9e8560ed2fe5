"""What a program of the host answered when it was asked, and version numbers in answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(r"(?<![\w.])(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?")


@dataclass(frozen=True)
class Said:
    """`text` is what it printed; `failed` says why there is no answer, empty if there is one."""

    text: str = ""
    failed: str = ""
    missing: bool = False


def version(said: Said) -> tuple[int, ...]:
    """The first version number in an answer, () if there is none: `git version 2.39.5` gives (2, 39, 5)."""
    found = _VERSION.search(said.text)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def dotted(number: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(str(part) for part in number)
