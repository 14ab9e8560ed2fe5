"""The fetch of an agent's branches into a repository of this host."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hive_core.cli.access.git.limits import FetchLimits
from hive_core.cli.access.git.target import Target
from hive_core.cli.access.git.transfer import Transfer
from hive_core.cli.client import Client


def fetch(client: Client, agent: str, repository: str, target: Path, limits: FetchLimits) -> int:
    """Fetch the branches of an agent's repository into `target`, as refs/hive/<agent>/*.

    What comes is in a repository of its own until all of it has come within the limits; otherwise nothing of it is
    left. Returns git's exit code. Raises Failure.
    """
    place = Target(target)
    objects = place.objects()
    # git gc removes directories of such a name, should this one be left by a kill.
    directory = Path(tempfile.mkdtemp(prefix="tmp_objdir-hive-", dir=objects))
    try:
        place.prepare(directory, objects)
        transfer = Transfer(client, agent, repository, place, directory, limits)
        if code := transfer.run():
            return code
        place.take_packs(directory, objects, agent, limits)
        return place.take_branches(directory, agent)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
