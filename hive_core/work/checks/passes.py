"""The checks that have passed, so that none is run twice on the same files with the same programs.

A pass is an empty file with the digest of all that it depends on as its name. Only passes are remembered: a check that
has failed may have failed by chance, and is run again when its proposal is tried again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

KEPT_DAYS = 30


class CheckPasses:
    """The passes in a directory that only the daemon can enter. Methods block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @staticmethod
    def key(tree: str, argv: Sequence[str], closure: str, repository: str, hosts: Sequence[str] = ()) -> str:
        """Return the name of a pass: of a command on the files of a tree, with the programs of a closure, which may
        have reached hosts.
        """
        return _digest(tree, list(argv), closure, repository, *_reached(hosts))

    @staticmethod
    def work_key(tree: str, argv: Sequence[str], work: str, repository: str, hosts: Sequence[str] = ()) -> str:
        """Return the name of a pass of a command on the files of one proposal, with the programs of any closure."""
        return _digest(tree, list(argv), {"work": work}, repository, *_reached(hosts))

    def has(self, key: str) -> bool:
        """Return True if the check has passed before."""
        return (self._directory / key).exists()

    def add(self, *keys: str) -> None:
        """Remember passes, unless there is no room for them, and forget those that are older than `KEPT_DAYS`."""
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for key in keys:
                (self._directory / key).touch()
            oldest = time.time() - KEPT_DAYS * 86_400
            for path in self._directory.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _reached(hosts: Sequence[str]) -> list[object]:
    return [{"hosts": sorted(hosts)}] if hosts else []


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
