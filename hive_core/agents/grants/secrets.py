"""The secrets of agents: encrypted at rest, and shown to the agent as files in memory."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog

from hive_core.agents.grants.secret_files import SecretFiles
from hive_core.agents.registry import AgentRegistry, check_name
from hive_core.errors import HiveError, conflict, not_found
from hive_core.infra.concurrency.threads import CREDENTIALS
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.storage.credentials import CredentialStore, StoredCredential
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space
from hive_core.protocol import Done, RemoveSecret, SecretEntry, SecretList, SetSecret
from hive_core.protocol.config.secrets import MAX_SECRETS

log = structlog.get_logger(__name__)
T = TypeVar("T")

_PREFIX = "secret."


class AgentSecrets:
    """Stores the secrets of agents, and keeps their files as the store has them.

    The files are there whether the agent runs or not, so that a start needs nothing, and a change is seen at once.
    """

    def __init__(
        self, registry: AgentRegistry, database: Database, store: CredentialStore, secret_files: SecretFiles
    ) -> None:
        self._registry = registry
        self._database = database
        self._store = store
        self._files = secret_files
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._problems: dict[tuple[str, str], str] = {}

    async def open(self, agents: Collection[str]) -> None:
        """Write the files of the known agents, and remove those of others. Failures are logged: no start fails."""
        try:
            await self._on_files(self._files.remove_all, frozenset(agents))
        except HiveError as error:
            log.error("secrets of other agents not removed", code=error.code, error=error.message)
        for agent in agents:
            await self._show_all(agent)

    async def close(self, *, agents_have_ended: bool) -> None:
        """Remove the files if no agent can be running any more; containers outlive the daemon."""
        if agents_have_ended:
            try:
                await self._on_files(self._files.remove_all)
            except HiveError as error:
                log.warning("files of secrets not removed", error=error.message)

    async def make_directory(self, agent: str) -> Path | None:
        """Write the files of an agent that is created, which an earlier agent of the name may have left; returns their
        directory, None if there is none.
        """
        await self._show_all(agent)
        return self._files.directory(agent)

    def directory(self, agent: str) -> Path | None:
        """Return the directory with an agent's secrets; None if this host can show none."""
        return self._files.directory(agent)

    # --- requests -----------------------------------------------------------------------------------------------

    async def list(self, agent: str) -> SecretList:
        """Return the secrets of an agent without values, also of one that was destroyed.

        Raises `unknown_agent`, `bad_name`.
        """
        entries = _names_of(agent, await self._store.entries())
        self._check_known(agent, entries)
        record = self._registry.find(agent)
        return SecretList(
            agent=agent,
            secrets=[
                SecretEntry(
                    name=name,
                    changed_at=datetime.fromtimestamp(entry.changed_at, UTC),
                    problem=self._problems.get((agent, name), ""),
                )
                for name, entry in entries.items()
            ],
            in_turns=[] if record is None else record.config.secrets,
        )

    async def set(self, agent: str, request: SetSecret, actor: str) -> Done:
        """Store a secret and show it to the agent, which may be running.

        Raises:
            HiveError: `unknown_agent`, `bad_name`, `too_many_secrets`, `no_memory_for_secrets`, `disk_full`,
                `credentials_unusable`.
        """
        self._registry.record(agent)
        self._files.check()
        async with self._locks[agent]:
            entries = _names_of(agent, await self._store.entries())
            if request.name not in entries and len(entries) >= MAX_SECRETS:
                raise conflict("too_many_secrets", f"{agent} has {len(entries)} secrets already", "remove one first")
            await self._audit("secret_set", agent, request.name, actor)
            await self._store.put(_key(agent, request.name), request.content)
            self._problems.pop((agent, request.name), None)
            if self._registry.find(agent) is not None:
                await self._on_files(self._files.write, agent, request.name, request.content)
        return Done()

    async def remove(self, agent: str, request: RemoveSecret, actor: str) -> Done:
        """Remove a secret from the store and from the agent at once. Raises `unknown_agent`, `unknown_secret`."""
        async with self._locks[agent]:
            entries = _names_of(agent, await self._store.entries())
            self._check_known(agent, entries)
            if request.name not in entries:
                known = ", ".join(entries) or "none"
                raise not_found("unknown_secret", f"{agent} has no secret {request.name}", f"it has: {known}")
            await self._audit("secret_remove", agent, request.name, actor)
            # First the agent: a full or broken disk must not keep it from losing what it is to lose.
            await self._on_files(self._files.remove, agent, request.name)
            await self._store.delete(_key(agent, request.name))
            self._problems.pop((agent, request.name), None)
        return Done()

    async def forget(self, agent: str, *, purge: bool) -> None:
        """Remove the files of an agent that was destroyed; with `purge` its secrets, too."""
        async with self._locks[agent]:
            await self._on_files(self._files.write_all, agent, {})
            if purge:
                for name in _names_of(agent, await self._store.entries()):
                    await self._store.delete(_key(agent, name))

    # ------------------------------------------------------------------------------------------------------------

    async def _show_all(self, agent: str) -> None:
        async with self._locks[agent]:
            try:
                names = _names_of(agent, await self._store.entries())
            except HiveError as error:
                log.error("secrets cannot be read", code=error.code, error=error.message)
                names = {}
            values = {}
            for name in names:
                try:
                    value = await self._store.get(_key(agent, name))
                except HiveError as error:
                    log.warning("secret not shown", agent=agent, secret_name=name, code=error.code, why=error.message)
                    self._problems[agent, name] = error.message
                else:
                    if value is not None:
                        values[name] = value
            try:
                await self._on_files(self._files.write_all, agent, values)
            except HiveError as error:
                log.error("secrets not shown", agent=agent, code=error.code, error=error.message)
                self._problems |= {(agent, name): error.message for name in names}

    async def _audit(self, action: str, agent: str, name: str, actor: str) -> None:
        detail = {"name": name}
        await self._database.write(
            lambda db: audit.append(db, actor=actor, action=action, subject=agent, detail=detail)
        )

    def _check_known(self, agent: str, entries: Collection[str]) -> None:
        check_name(agent)
        if not entries:
            self._registry.record(agent)

    async def _on_files(self, function: Callable[..., T], /, *arguments: object) -> T:
        try:
            return await CREDENTIALS.run(function, *arguments)
        except OSError as error:
            if is_lack_of_space(error):
                raise disk_full("write the files of secrets") from None
            what = f"the files of secrets cannot be changed: {os.strerror(error.errno or 0)}"
            hint = f"see {self._files.top}"
            raise HiveError("credentials_unusable", what, hint=hint, status=500) from None


def _key(agent: str, name: str) -> str:
    """Return the name of a credential; names of agents have no dot."""
    return f"{_PREFIX}{agent}.{name}"


def _names_of(agent: str, stored: Collection[StoredCredential]) -> dict[str, StoredCredential]:
    prefix = _key(agent, "")
    return {entry.name.removeprefix(prefix): entry for entry in stored if entry.name.startswith(prefix)}
