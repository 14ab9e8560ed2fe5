"""Objects from a repository that is not trusted, kept apart until they have been checked.

A quarantine is an object directory of its own beside a trusted bare repository, whose objects it can see. `git
index-pack --strict` reads a pack into it: every object is hashed anew, checked as `git fsck` does, and may refer only
to objects that are there. `accept` then moves the pack into the trusted repository; until then nothing of it is
there. The quarantine lies on the file system of the repository, in a place that may be deleted whenever no intake is
under way.
"""

from __future__ import annotations

import os
from pathlib import Path

from hive_core.git.calls import Call, environment
from hive_core.infra.files import refusing, sync


class Quarantine:
    """One quarantine in the empty directory `place`; `bare` is a repository of our own to run git in."""

    def __init__(self, place: Path, bare: Path, repository: Path) -> None:
        self._trusted = repository / "objects"
        self._objects = place
        (place / "pack").mkdir()
        self._bare = bare
        self._environment = environment(bare, self._objects, [self._trusted])

    def index(self, most: int) -> Call:
        """The command that takes in the pack on its standard input, refusing one of more than `most` bytes."""
        line = ("index-pack", "--stdin", "--strict", "--fsck-objects", "--threads=1", f"--max-input-size={most}")
        return Call(line, self._environment, (self._bare, self._trusted), (self._objects,))

    def look(self, *arguments: str) -> Call:
        """A command that only reads: the objects in quarantine and those of the trusted repository."""
        return Call(arguments, self._environment, (self._bare, self._trusted, self._objects))

    def accept(self) -> None:
        """Move what was taken in into the trusted repository, for good; no ref is changed. Blocks for the disk.

        Killed in the middle, it leaves at most a pack without an index there, which git does not see.
        """
        target = self._trusted / "pack"
        with refusing("keep a proposal"):
            target.mkdir(exist_ok=True)
            # index-pack has synced the files. The index comes last: git reads a pack when it finds its index.
            for ending in (".pack", ".idx"):
                for file in sorted((self._objects / "pack").glob(f"pack-*{ending}")):
                    os.replace(file, target / file.name)  # noqa: PTH105 - the same thing, and its name says atomic
            sync(target)
