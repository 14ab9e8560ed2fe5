"""Which hyperhive a system is built with: the flake of the settings as it is now, and what a closure was built with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.flakes.locking import lock
from hive_core.runtimes.nixos.build.store import FEATURES
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.nixos.replacing import read_bytes

RECIPE = Path("etc/hyperhive/recipe")
"""In a closure: the hash of the hyperhive that it was built with."""
_LONGEST = 200
_METADATA_SECONDS = 600.0
_METADATA_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Hyperhive:
    """Hyperhive's flake as it is at the moment. `nar_hash` is its identity, `source` where Nix has put it, and `lock`
    the start of a lock file with it (None where this version of Nix tells it in a form that is not known).
    """

    nar_hash: str
    source: str | None
    lock: Mapping[str, Any] | None


async def look(flake: str) -> Hyperhive:
    """Fetch the flake, as far as Nix has not lately. Raises HiveError `flake_unavailable`."""
    command = ["nix", *FEATURES, "flake", "metadata", "--json", "--no-write-lock-file", "--", flake]
    hint = "see the setting nixos.flake, and try: nix flake metadata"
    try:
        answer = await run(command, limit_bytes=_METADATA_BYTES, timeout=_METADATA_SECONDS)
    except HiveError as error:
        why = f"hyperhive's flake {flake!r} cannot be had: {error.message}"
        raise HiveError("flake_unavailable", why, hint=hint, status=503) from None
    found = parse(answer)
    if found is None:
        raise HiveError(
            "flake_unavailable", f"Nix says nothing of use about the flake {flake!r}", hint=hint, status=503
        )
    return found


def parse(answer: str) -> Hyperhive | None:
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
    return Hyperhive(nar_hash, source if isinstance(source, str) else None, lock(metadata))


def recipe_of(closure: Path, store: Path) -> str | None:
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
