"""The agent's own configuration, a git repository in its container: reading and creating commits.

The path of the repository is passed to git, so that it does not use a repository in a parent directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from hive_agent.environment import AgentEnvironment
from hive_agent.infra.leftovers import remove_git_locks
from hive_agent.repositories.git_command import GitFailed, run_git

_SECONDS = 60.0


def applied_repository(environment: AgentEnvironment, agent: str) -> Path | None:
    """The path of the agent's applied repository, None if it cannot be read here."""
    directory = environment.variables.get("HIVE_AGENT_APPLIED")
    return Path(directory, f"{agent}.git") if directory else None


class ConfigRepository:
    """The repository in `directory` of the agent `name`; git is run with the environment `variables`."""

    def __init__(self, directory: Path, name: str, variables: Mapping[str, str]) -> None:
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()
        inherited = {key: value for key, value in variables.items() if not key.startswith("GIT_")}
        self._environment = {
            **inherited,
            "GIT_DIR": str(directory / ".git"),
            "GIT_WORK_TREE": str(directory),
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": f"{name}@hive",
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": f"{name}@hive",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C.UTF-8",
        }

    async def head(self) -> str:
        """The id of the checked-out commit. Raises GitFailed."""
        return (await self._git("rev-parse", "--verify", "HEAD^{commit}")).strip()

    async def uncommitted(self) -> list[str]:
        """Changed and new files that are not committed, as lines of git status (truncated). Raises GitFailed."""
        return (await self._git("status", "--porcelain")).splitlines()

    async def commit(self, changes: Mapping[str, str], message: str) -> str:
        """Write the files of `changes` (by path) and commit them; returns the commit's id.

        Without a difference to the checked-out commit, the id of that commit is returned, so this can be repeated.
        Raises GitFailed.
        """
        await self.head()  # fails before anything is written to a broken repository
        async with self._one_at_a_time:
            remove_git_locks(self._directory)
        try:
            for path, text in changes.items():
                (self._directory / path).write_text(text)
        except OSError as error:
            raise GitFailed(f"{self._directory} cannot be written: {error.strerror}") from None
        await self._git("add", "--", *changes)
        if await self._git("diff", "--cached", "--name-only", "HEAD", "--", *changes):
            text = message.replace("\0", "")
            await self._git("commit", "--quiet", "--no-verify", "--no-gpg-sign", "--file=-", "--", *changes, given=text)
        return await self.head()

    async def _git(self, *arguments: str, given: str = "") -> str:
        """Run git; returns the beginning of its output."""
        # Locked, because at the end of one program its orphans are killed, and a second program would be one.
        async with self._one_at_a_time:
            return await run_git(
                arguments,
                self._environment,
                self._directory,
                seconds=_SECONDS,
                given=given,
                missing=f"there is no configuration here: {self._directory} is missing",
            )
