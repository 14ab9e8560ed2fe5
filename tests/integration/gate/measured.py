"""A process that takes in every hostile repository, and prints by how much its memory grew at its highest."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.gate.intake import Intake, IntakeLimits
from tests.integration.gate.hostile import CASES
from tests.integration.gate.repos import Place


def highest() -> int:
    """The most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(home: str) -> None:
    first = Place(Path(home))
    limits = IntakeLimits(5 * 1024 * 1024, 1_000, seconds=5.0)
    # What is loaded at the first use is not growth.
    await Intake("bwrap", first.scratch, limits).take(first.config, first.applied, first.base, first.base)
    codes, before = {}, highest()
    for case in CASES:
        place = Place(shutil.copytree(first.home, first.home.with_name("case"), symlinks=True))
        commit = case.make(place)
        try:
            await Intake("bwrap", place.scratch, limits).take(place.config, place.applied, commit, place.base)
        except HiveError as error:
            codes[case.name] = error.code
        shutil.rmtree(place.home)
    print(json.dumps({"codes": codes, "growth": highest() - before}))  # noqa: T201 - what the test reads
