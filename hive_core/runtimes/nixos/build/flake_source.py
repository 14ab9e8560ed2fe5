"""Hyperhive's own flake: its newest revision, and the one that a closure was built with."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hive_core.errors import HiveError
from hive_core.infra.files import read_bytes
from hive_core.runtimes.nixos.build.flake import lock
from hive_core.runtimes.nixos.build.store import FEATURES
from hive_core.runtimes.nixos.commands import run

_log = structlog.get_logger(__name__)


FRESH_SECONDS = 1_800.0
"""For so long what was found, or that nothing was, is good enough for whoever only asks how old something is."""


class FlakeSource:
    """Looks for the first time when it is made, in the background; lives on the loop that it was made on."""

    def __init__(
        self, look: Callable[[], Awaitable[FlakeRevision]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`look` finds the flake in a bounded time, or raises HiveError or OSError; `clock` gives seconds."""
        self.last: FlakeRevision | None = None
        """What was found last."""
        self._look = look
        self._clock = clock
        self._tried = clock()
        self._closed = False
        self._looking = asyncio.create_task(self._try())

    async def known(self) -> FlakeRevision | None:
        """As it was half an hour ago or later, waiting while it is being looked at; older if it cannot be had any more,
        None if it never could.
        """
        old = self._clock() - self._tried >= FRESH_SECONDS
        if old and self._looking.done() and not self._closed:
            self._looking = asyncio.create_task(self._try())
        await asyncio.wait([self._looking])
        return self.last

    async def now(self) -> FlakeRevision:
        """As it is at this moment. Raises HiveError, also where the disk does not let it be looked at."""
        self._tried = self._clock()
        try:
            self.last = await self._look()
        except OSError as error:
            hint = "see whether the state directory's disk is full"
            raise HiveError("flake_unavailable", f"hyperhive's flake cannot be kept: {error}", hint=hint) from error
        return self.last

    async def close(self) -> None:
        """End what still goes on in the background, and look no more by itself."""
        self._closed = True
        self._looking.cancel()
        await asyncio.wait([self._looking])

    async def _try(self) -> None:
        try:
            await self.now()
        except HiveError as error:
            _log.warning("hyperhive's flake is not known", error=error.message, hint=error.hint)


RECIPE = Path("etc/hyperhive/recipe")
"""In a closure: the hash of the hyperhive that it was built with."""
_LONGEST = 200
_METADATA_SECONDS = 600.0
_METADATA_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class FlakeRevision:
    """Hyperhive's flake as it is at the moment. `nar_hash` is its identity, `source` where Nix has put it, and `lock`
    the start of a lock file with it (None where this version of Nix tells it in a form that is not known).
    """

    nar_hash: str
    source: str | None
    lock: Mapping[str, Any] | None


async def look_up_flake(flake: str) -> FlakeRevision:
    """Fetch the flake, as far as Nix has not lately. Raises HiveError `flake_unavailable`."""
    command = ["nix", *FEATURES, "flake", "metadata", "--json", "--no-write-lock-file", "--", flake]
    hint = "see the setting nixos.flake, and try: nix flake metadata"
    try:
        answer = await run(command, limit_bytes=_METADATA_BYTES, timeout=_METADATA_SECONDS)
    except HiveError as error:
        why = f"hyperhive's flake {flake!r} cannot be had: {error.message}"
        raise HiveError("flake_unavailable", why, hint=hint, status=503) from None
    found = parse_metadata(answer)
    if found is None:
        raise HiveError(
            "flake_unavailable", f"Nix says nothing of use about the flake {flake!r}", hint=hint, status=503
        )
    return found


def parse_metadata(answer: str) -> FlakeRevision | None:
    """Read what `nix flake metadata --json` prints; None without a hash. Pure."""
    try:
        metadata = json.loads(answer)
    except ValueError:
        return None
    locked = metadata.get("locked") if isinstance(metadata, dict) else None
    nar_hash = locked.get("narHash") if isinstance(locked, dict) else None
    if not isinstance(nar_hash, str) or not nar_hash:
        return None
    source = metadata.get("path")
    return FlakeRevision(nar_hash, source if isinstance(source, str) else None, lock(metadata))


def revision_of(closure: Path, store: Path) -> str | None:
    """The hash of the hyperhive that a closure was built with; None if it does not tell. Blocks."""
    try:
        path = os.path.realpath(closure / RECIPE)
        # What is in a closure is an agent's: a link in it may point anywhere, but only the store is read.
        if not Path(path).is_relative_to(store):
            return None
        text = read_bytes(Path(path), _LONGEST).decode()
    except (OSError, ValueError):
        return None
    return text.strip() or None
