"""The import of a proposed configuration: its objects, checks of its tree, its descent from the deployed one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hive_core.errors import conflict
from hive_core.gate.intake import source_check
from hive_core.gate.intake.object_import import Import, ObjectImporter, ObjectSource, Trusted, check_commit_id
from hive_core.gate.intake.tree_check import CheckedConfig, read_checked_config, read_head
from hive_core.protocol import AgentConfig
from hive_core.settings import LimitCeilings


@dataclass(frozen=True)
class IntakeLimits:
    """Limits of an intake.

    `bytes` limits the pack, each file and the sum of all files; `files` their number; `seconds` the time, and the
    processor time of each command; `memory` the bytes of address space of each command, in addition to the size of a
    file. `ceilings` are those of the limits in `agent.toml`. `check_settings` raises HiveError for a setting that the
    runtime cannot enforce.
    """

    bytes: int
    files: int
    seconds: float = 30.0
    memory: int = 512 * 1024 * 1024
    ceilings: LimitCeilings = field(default_factory=LimitCeilings)
    check_settings: Callable[[AgentConfig], None] = lambda _: None


class CommitImporter:
    """Imports configurations into applied repositories; see `ObjectImporter`."""

    def __init__(self, bwrap: str | None, scratch: Path, most: IntakeLimits) -> None:
        self._most = most
        self._importer = ObjectImporter(bwrap, scratch, most)

    async def import_commit(self, config: Path, repository: Path, commit: str, base: str | None) -> CheckedConfig:
        """Check a commit of the repository in `config` and store its objects durably in `repository`, without a ref.

        `base` is the commit that it must descend from, one of `repository`. Raises HiveError as
        `ObjectImporter.importing`, and `no_repository`, `bad_repository`, `too_many_files`, `bad_agent_toml`,
        `above_ceiling`, the errors of `check_settings`, `bad_prompt`, `not_rebased`.
        After an error or a cancellation nothing is left behind.
        """
        check_commit_id(commit)
        await asyncio.to_thread(source_check.check, config)
        source = ObjectSource(config, source_check.OBJECTS)
        async with self._importer.importing(source, Trusted(repository, repository)) as taking:
            return await self._check_and_accept(taking, commit, base)

    async def _check_and_accept(self, taking: Import, commit: str, base: str | None) -> CheckedConfig:
        most = self._most
        # The reader waits for requests, so it is started first: the start of its sandbox takes time.
        async with taking.reader() as objects:
            await taking.transfer(commit, [base] if base else [])
            head = await read_head(objects, commit)
            if base is not None and base not in (commit, *head.parents) and not await taking.descends(commit, base):
                hint = f'git fetch "$HIVE_AGENT_APPLIED/{taking.trusted.into.name}" main && git rebase FETCH_HEAD'
                raise conflict("not_rebased", f"{commit} does not build on {base}, which is deployed now", hint)
            candidate = await read_checked_config(objects, head.tree, most.bytes, most.files, most.ceilings)
            most.check_settings(candidate.config)
        await taking.accept()
        return candidate
