"""The way of approved objects from a work repository into the mirror. Functions block."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hive_core.infra.git.command import checked
from hive_core.infra.git.names import check_sha
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import sync

_SECONDS = 600.0
_MODE = 0o444
"""Agents read the mirror, in containers as other users."""


def transfer_objects(work: Path, mirror: Path, commit: str, but: Sequence[str], scratch: Path) -> None:
    """Store durably in the mirror what `commit` reaches and the commits `but`, which the mirror has, do not.

    No ref changes. After a kill there is at most a pack without an index, which git ignores. `scratch` is a directory
    on the file system of the mirror. Raises HiveError `git_failed`, `git_slow`, `disk_full`.
    """
    with disk_full_as_error("land work"):
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="landing-", dir=scratch))
        try:
            wanted = f"{check_sha(commit)}\n" + "".join(f"^{check_sha(each)}\n" for each in but)
            arguments = ("pack-objects", "--revs", "-q", "--delta-base-offset", str(directory / "pack"))
            checked(work, *arguments, feed=wanted.encode(), seconds=_SECONDS)
            target = mirror / "objects/pack"
            target.mkdir(exist_ok=True)
            # The index comes last: git reads a pack when it finds its index.
            for ending in (".pack", ".idx"):
                for file in sorted(directory.glob(f"pack-*{ending}")):
                    file.chmod(_MODE)
                    sync(file)
                    os.replace(file, target / file.name)  # noqa: PTH105 - the same thing, and its name says atomic
            sync(target)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
