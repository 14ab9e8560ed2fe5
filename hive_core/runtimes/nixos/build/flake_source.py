"""Hyperhive's own flake: its newest revision, and the one that a closure was built with."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hive_core.errors import HiveError
from hive_core.infra.storage.files import read_bytes
from hive_core.runtimes.nixos.build.flake import lock, nix_string, path_reference
from hive_core.runtimes.nixos.build.store import FEATURES
from hive_core.runtimes.nixos.commands import run

_log = structlog.get_logger(__name__)


FRESH_SECONDS = 1_800.0
"""The result of a look-up, also of a failed one, is used for this time where only the age of a closure is asked."""


class FlakeSource:
    """Looks up hyperhive's flake, for the first time in the background when it is created. Use it on one event loop."""

    def __init__(
        self, look: Callable[[], Awaitable[FlakeRevision]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`look` looks up the flake in a bounded time, or raises HiveError or OSError; `clock` returns seconds."""
        self.last: FlakeRevision | None = None
        """The result of the last successful look-up."""
        self._look = look
        self._clock = clock
        self._tried = clock()
        self._closed = False
        self._looking = asyncio.create_task(self._refresh())

    async def known(self) -> FlakeRevision | None:
        """Return a result that is at most half an hour old, waiting for a look-up in progress.

        If look-ups fail, return an older result; None if there was never one.
        """
        old = self._clock() - self._tried >= FRESH_SECONDS
        if old and self._looking.done() and not self._closed:
            self._looking = asyncio.create_task(self._refresh())
        await asyncio.wait([self._looking])
        return self.last

    async def now(self) -> FlakeRevision:
        """Look up the flake now. Raises HiveError, also for errors of the disk."""
        self._tried = self._clock()
        try:
            self.last = await self._look()
        except OSError as error:
            hint = "see whether the state directory's disk is full"
            raise HiveError("flake_unavailable", f"hyperhive's flake cannot be kept: {error}", hint=hint) from error
        return self.last

    async def close(self) -> None:
        """End the look-up in the background; there will be no others."""
        self._closed = True
        self._looking.cancel()
        await asyncio.wait([self._looking])

    async def _refresh(self) -> None:
        try:
            await self.now()
        except HiveError as error:
            _log.warning("hyperhive's flake is not known", error=error.message, hint=error.hint)


RECIPE = Path("etc/hyperhive/recipe")
"""The path in a closure of the hash of the hyperhive that it was built with."""
_LONGEST = 200
_METADATA_SECONDS = 600.0
_METADATA_BYTES = 8 * 1024 * 1024
INPUTS_PREFIX = "build-inputs-"
"""Prefix of temporary directories in the scratch directory; the next start of the daemon removes what is left."""


@dataclass(frozen=True)
class FlakeRevision:
    """One revision of hyperhive's flake. `nar_hash` is its identity, `source` its path in the store, and `lock` the
    start of a lock file with it (None if the form of the output of this version of Nix is not known).
    """

    nar_hash: str
    source: str | None
    lock: Mapping[str, Any] | None


async def look_up_flake(flake: str) -> FlakeRevision:
    """Fetch the flake, unless Nix has done so recently. Raises HiveError `flake_unavailable`."""
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


_INPUTS_FLAKE = """\
{
  inputs.hyperhive.url = %s;
  outputs = _: { };
}
"""


async def fetch_inputs(flake: str, locked: Mapping[str, Any], scratch: Path) -> list[str]:
    """Fetch hyperhive's flake with all of its inputs, as locked, into the store; returns their paths there.

    Evaluations have no network, so everything has to be there before. Raises HiveError `flake_unavailable`.
    """
    directory = await asyncio.to_thread(_write_inputs_flake, scratch, nix_string(flake), json.dumps(locked))
    command = ["nix", *FEATURES, "flake", "archive", "--json", "--no-update-lock-file", "--no-write-lock-file"]
    try:
        answer = await run(
            [*command, "--", path_reference(directory)], limit_bytes=_METADATA_BYTES, timeout=_METADATA_SECONDS
        )
        return archived_paths(answer)
    except HiveError as error:
        why = f"the inputs of hyperhive's flake {flake!r} cannot be had: {error.message}"
        hint = "see the setting nixos.flake, and try: nix flake archive"
        raise HiveError("flake_unavailable", why, hint=hint, status=503) from None
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _write_inputs_flake(scratch: Path, flake: str, locked: str) -> Path:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=INPUTS_PREFIX, dir=scratch))
    (directory / "flake.nix").write_text(_INPUTS_FLAKE % flake)
    (directory / "flake.lock").write_text(locked)
    return directory


def archived_paths(answer: str) -> list[str]:
    """Take the store paths of all inputs from the output of `nix flake archive --json`. Pure.

    Raises HiveError `flake_unavailable` for another form.
    """
    found: list[str] = []
    try:
        left = list(json.loads(answer)["inputs"].values())
        while left:
            node = left.pop()
            found.append(str(Path(node["path"])))
            left += node["inputs"].values()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise HiveError(
            "flake_unavailable", "nix flake archive --json answers in a form that is not known", status=503
        ) from None
    return sorted(set(found))


def parse_metadata(answer: str) -> FlakeRevision | None:
    """Parse the output of `nix flake metadata --json`; None if it has no hash. Pure."""
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
    """Return the hash of the hyperhive that a closure was built with; None if it has none. Blocks."""
    try:
        path = os.path.realpath(closure / RECIPE)
        # The agent chose the content of the closure: a link in it may lead anywhere, and only the store is read.
        if not Path(path).is_relative_to(store):
            return None
        text = read_bytes(Path(path), _LONGEST).decode()
    except (OSError, ValueError):
        return None
    return text.strip() or None
