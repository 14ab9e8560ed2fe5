"""A process that takes in repositories made elsewhere, and prints by how much its memory grew at its highest."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.gate.intake.import_commit import CommitImporter
from tests.helpers.git_repos import AgentRepositories
from tests.integration.gate.conftest import LIMITS


def highest() -> int:
    """The most memory that this program has had, in KiB. (What getrusage tells is its parent's, if that had more.)"""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


async def main() -> None:
    """Standard input says what to take: a list of [directory, commit, seconds], the first of them a good one."""
    codes: list[str] = []
    before = 0
    for home, commit, seconds in json.load(sys.stdin):
        repositories = AgentRepositories(Path(home))
        try:
            importer = CommitImporter("bwrap", repositories.scratch, replace(LIMITS, seconds=seconds))
            await importer.import_commit(repositories.config, repositories.applied, commit, repositories.base)
            codes.append("")
        except HiveError as error:
            codes.append(error.code)
        # What the first one loads is not growth.
        before = before or highest()
    print(json.dumps({"codes": codes, "growth": highest() - before}))  # noqa: T201 - what the test reads
