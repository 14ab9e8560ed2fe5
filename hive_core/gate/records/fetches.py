"""Fetches from the network that a build needs: what the gate keeps of them, and their texts.

Names, URLs, hashes and programs are texts of the configuration, so of an agent. In a line of text the hive's own words
stand first, and each of the others is escaped and cut, so that none can end the line or pass for the hive's words.

Tags and the index hold the fields of `Fetch` and `FetchPermission` by their names: tags that exist are read with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from hive_core.protocol import AllowedFetches, NetworkFetch
from hive_core.runtimes.base import Fetch, FetchesMissing
from hive_core.text import Quoted, one_line

MAX_FETCHES = 200
"""Number of fetches that one proposal can name and an operator can allow."""
_MAX_BYTES = 256 * 1024
"""Size of the fetches of one proposal in a tag."""
_MAX_URLS = 64
_MAX_TEXT = 4_000
_NAMED_IN_REASON = 10
_SHOWN_URLS = 3
_WIDTH = 300
_BY_NIX = "builtin:fetchurl"
_DERIVATION = re.compile(r"(/[A-Za-z0-9+._?=-]{1,255})+\.drv")


@dataclass(frozen=True)
class FetchPermission:
    """An operator's permission to fetch exactly these derivations while a commit is built.

    `by` is the label of the operator, `failed` the number of the proposal that failed for want of them, `number` that
    of the proposal that was made with the permission. A rebuild of the same commit has the permission, too.
    """

    by: str
    failed: int
    number: int
    fetches: tuple[Fetch, ...]

    @property
    def derivations(self) -> frozenset[str]:
        """The store paths of the derivations."""
        return frozenset(fetch.derivation for fetch in self.fetches)

    def to_protocol(self) -> AllowedFetches:
        """Return the permission as a model of the protocol."""
        return AllowedFetches(by=self.by, failed=self.failed, fetches=fetches_to_protocol(self.fetches))


def to_json(value: object) -> str:
    """Return a value of a tag as JSON; fetches and permissions become objects."""
    return json.dumps(value, default=asdict)


_PERMISSION = TypeAdapter(FetchPermission | None)


def parse_permission(text: str | None) -> FetchPermission | None:
    """Return the permission that `to_json` has written. Raises ValueError."""
    return None if text is None else _PERMISSION.validate_json(text)


def fetches_to_protocol(fetches: Sequence[Fetch]) -> list[NetworkFetch]:
    """Return the fetches as models of the protocol."""
    return [NetworkFetch(**asdict(fetch), by_nix=fetch.program == _BY_NIX) for fetch in fetches]


def can_be_recorded(fetches: Sequence[Fetch]) -> bool:
    """Return True if a tag can name all of the fetches, so that an operator can see and allow them."""
    return (
        len(fetches) <= MAX_FETCHES
        and all(_is_recordable(fetch) for fetch in fetches)
        and len(to_json(list(fetches))) <= _MAX_BYTES
    )


def _is_recordable(fetch: Fetch) -> bool:
    texts = (fetch.name, fetch.hash, fetch.derivation, fetch.program, *fetch.urls)
    return (
        _DERIVATION.fullmatch(fetch.derivation) is not None
        and len(fetch.urls) <= _MAX_URLS
        and all(len(text) <= _MAX_TEXT and text.isascii() and text.isprintable() for text in texts)
    )


def missing_reason(fetches: Sequence[Fetch], name: str) -> str:
    """Return the reason for the failure of a build that needs these fetches; `name` is the proposal's ("ada/3")."""
    first = str(FetchesMissing(fetches))
    lines = [f"- {describe(fetch)}" for fetch in fetches[:_NAMED_IN_REASON]]
    if not can_be_recorded(fetches):
        first += (
            f"; they cannot be allowed: more than {MAX_FETCHES} fetches or {_MAX_BYTES // 1024} KiB of text, "
            "or text other than printable ASCII"
        )
    elif len(fetches) > len(lines):
        lines.append(f"- and {len(fetches) - len(lines)} more: hive-c0re proposals show {name} has all of them")
    return "\n".join([f"{first}:", *lines])


def quote_fetches(fetches: Sequence[Fetch], most: int, width: int) -> str:
    """Return a quoted line of `width` characters at most for each of the first `most` fetches."""
    lines = [one_line(describe(fetch), width) for fetch in fetches[:most]]
    if len(fetches) > most:
        lines.append(f"and {len(fetches) - most} more")
    return Quoted("\n".join(lines)).block((most + 1) * (width + 1))


def describe(fetch: Fetch) -> str:
    """Return one line about a fetch: who fetches, then the texts of the configuration, the URLs last."""
    shown = [one_line(url, _WIDTH) for url in fetch.urls[:_SHOWN_URLS]]
    if len(fetch.urls) > _SHOWN_URLS:
        shown.append(f"and {len(fetch.urls) - _SHOWN_URLS} more")
    urls = " ".join(shown) or "none"
    what = f"derivation {one_line(fetch.derivation, _WIDTH)}, hash {one_line(fetch.hash, _WIDTH)}"
    if fetch.program == _BY_NIX:
        return f"Nix itself fetches: {what}, URLs {urls}"
    program = f"program {one_line(fetch.program, _WIDTH)}, URLs that it names {urls}"
    return f"a program of the configuration runs with network and may contact any host: {what}, {program}"
