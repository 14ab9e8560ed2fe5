"""One thing that was looked at, and whether it is as it has to be."""

from __future__ import annotations

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
