"""Fetches from the network, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hive_core.text import escaped_line

_BY_NIX = "Nix itself fetches these, from their URLs and from where those redirect to:"
_BY_PROGRAM = (
    "For these a program of the configuration runs with network. It may contact ANY host, whatever URLs it names:"
)


def fetch_sections(proposal: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the lines of each section of a proposal about fetches."""
    if missing := proposal.get("missing_fetches"):
        yield "Fetches from the network that the build needs and no operator has allowed", fetch_lines(missing)
    if allowed := proposal.get("allowed_fetches"):
        name = escaped_line(f"{proposal.get('agent')}/{allowed.get('failed')}")
        title = f"Fetches that {escaped_line(str(allowed.get('by')))} allowed, for want of which {name} had failed"
        yield title, fetch_lines(allowed.get("fetches", []))


def fetch_lines(fetches: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines about fetches: those of Nix itself first, then those of programs."""
    lines: list[str] = []
    for heading, by_nix in ((_BY_NIX, True), (_BY_PROGRAM, False)):
        found = [fetch for fetch in fetches if (fetch.get("by_nix") is True) == by_nix]
        if found:
            lines += [heading, *(line for fetch in found for line in _lines(fetch, by_nix=by_nix))]
    return lines


def _lines(fetch: dict[str, Any], *, by_nix: bool) -> list[str]:
    urls = [escaped_line(str(url)) for url in fetch.get("urls", [])] or ["(no URL)"]
    lines = [f"- {escaped_line(str(fetch.get('name')))}", *(f"    URL         {url}" for url in urls)]
    lines.append(f"    hash        {escaped_line(str(fetch.get('hash')))}")
    lines.append(f"    derivation  {escaped_line(str(fetch.get('derivation')))}")
    if not by_nix:
        lines.append(f"    program     {escaped_line(str(fetch.get('program')))}")
    return lines
