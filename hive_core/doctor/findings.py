"""Findings of the doctor, and the output of the programs that it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """`check` names what was looked at, stable and for programs; `what` says what was found, in words.

    An `error` keeps the hive, or a part of it, from working as it is configured. With a `warning` it works, but less
    well or less safely than it could. `remedy` says what to do; empty if all is well.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """As it has to be."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Worse than it could be."""
    return Finding(check, "warning", what, remedy)


def error(check: str, what: str, remedy: str) -> Finding:
    """Missing or wrong."""
    return Finding(check, "error", what, remedy)


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong; warnings alone are no illness."""
    return all(finding.severity != "error" for finding in findings)


_VERSION = re.compile(r"(?<![\w.])(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?")


@dataclass(frozen=True)
class CommandOutput:
    """`text` is what it printed; `failed` says why there is no answer, empty if there is one."""

    text: str = ""
    failed: str = ""
    missing: bool = False


def version(said: CommandOutput) -> tuple[int, ...]:
    """The first version number in an answer, () if there is none: `git version 2.39.5` gives (2, 39, 5)."""
    found = _VERSION.search(said.text)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def dotted(number: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(str(part) for part in number)
