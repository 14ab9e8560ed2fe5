"""The hive that the tests of builds in one module share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.builds.build_hive import Hive
from tests.system.host_hive import lay_out_flake


@pytest.fixture(scope="module")
def hive() -> Iterator[Hive]:
    # Not in /tmp, of which a unit has its own. Hyperhive's flake lies where only root can look.
    directory = Path(tempfile.mkdtemp(prefix="hive-", dir="/var/lib"))
    flake = Path(tempfile.mkdtemp(prefix="flake-", dir="/root"))
    lay_out_flake(flake)
    yield Hive(directory, flake)
    shutil.rmtree(directory)
    shutil.rmtree(flake)
