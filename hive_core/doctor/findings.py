"""Findings of the doctor, and the output of the programs that it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The result of one check. `check` is its stable name, for programs; `what` describes the result in words.

    With an `error` the hive or a part of it does not work as it is configured. With a `warning` it works, but less
    well or less safely than it could. `remedy` says what to do; it is empty if the result is ok.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Return a finding that something could be better."""
    return Finding(check, "warning", what, remedy)


def error(check: str, what: str, remedy: str) -> Finding:
    """Return a finding that something is missing or wrong."""
    return Finding(check, "error", what, remedy)


def healthy(findings: Iterable[Finding]) -> bool:
    """Return True if there is no error among the findings."""
    return all(finding.severity != "error" for finding in findings)


_VERSION = re.compile(r"(?<![\w.])(\d{1,6})(?:\.(\d{1,6}))?(?:\.(\d{1,6}))?")


@dataclass(frozen=True)
class CommandOutput:
    """The output of a program; `failed` says why there is none, and is empty if there is one."""

    text: str = ""
    failed: str = ""
    missing: bool = False


def version(said: CommandOutput) -> tuple[int, ...]:
    """Return the first version number in an output, () if there is none: `git version 2.39.5` gives (2, 39, 5)."""
    found = _VERSION.search(said.text)
    return tuple(int(part) for part in found.groups() if part) if found else ()


def dotted(number: tuple[int, ...]) -> str:
    """Return a version as text, with dots."""
    return ".".join(str(part) for part in number)
