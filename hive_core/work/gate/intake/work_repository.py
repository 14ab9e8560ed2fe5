"""The repository that holds the proposals of work for one repository. Only the daemon sees it."""

from __future__ import annotations

import os
from pathlib import Path

from hive_core.infra.git import create
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import sync


def prepare(path: Path, mirror: Path) -> None:
    """Create the work repository, which borrows the objects of the mirror, if it does not exist. Blocks.

    After a kill at any moment the next call completes it. Raises `repository_damaged`, `disk_full`.
    """
    create.create_bare(path.absolute())
    alternates = path / "objects/info/alternates"
    # Relative, so that a state directory that was moved or restored elsewhere works.
    text = os.path.relpath(mirror / "objects", path / "objects") + "\n"
    if alternates.is_file() and alternates.read_text() == text:
        return
    with disk_full_as_error(f"make {path.name}"):
        alternates.parent.mkdir(exist_ok=True)
        new = alternates.with_name("alternates.new")
        new.write_text(text)
        sync(new)
        new.replace(alternates)
        sync(alternates.parent)
