"""The agent's clones of its repositories, made and checked at the harness's start.

A clone borrows the objects of the mirror, so it takes as long as writing its files. It is made beside its place and
renamed, so that a killed harness leaves none half made. What exists is never changed, but for what keeps git from
working: locks of a git that was killed, an empty index, and the path of a mirror that has moved.

No hook, filter or settings file of anybody runs here: git reads only the settings that are given to it, and those that
the agent has written into its own clone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hive_agent.infra import state_files
from hive_agent.infra.leftovers import remove_git_locks
from hive_agent.repositories.git_command import GitFailed, run_git
from hive_agent.repositories.places import RepositoryPlace

log = logging.getLogger(__name__)

_CLONE_SECONDS = 1_800.0
"""Longest time for writing the files of a clone, after which the harness works without it."""
_CHECK_SECONDS = 60.0
_ALTERNATES = Path(".git/objects/info/alternates")
_MOST_ALTERNATES = 64 * 1024
_UNFINISHED = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*\.new")
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
    "submodule.recurse": "false",
    "checkout.workers": "0",
}
_READ_ONLY = "{mirror} is read-only, commit and call the tool submit_work instead"
"""The address for `git push`: git says that this is no repository."""


async def prepare_clones(places: Sequence[RepositoryPlace], code: Path, variables: Mapping[str, str]) -> list[str]:
    """Make the clones that are missing in the directory `code` and check the others; returns the problems in words."""
    for path in _directories(code):
        if _UNFINISHED.fullmatch(path.name):
            await _remove(path)  # A killed harness has left it.
    problems: list[str] = []
    for place in places:
        problem = await _Clone(place, variables).prepare()
        if problem:
            log.warning("%s", problem)
            problems.append(problem)
    known = {place.clone for place in places}
    problems += [_orphan(path) for path in _directories(code) if path not in known and _lacks_objects(path)]
    return problems


class _Clone:
    """One clone of the agent."""

    def __init__(self, place: RepositoryPlace, variables: Mapping[str, str]) -> None:
        self._place = place
        self._environment = git_environment(variables)

    async def prepare(self) -> str:
        """Make the clone if there is none, else check it; returns what is wrong with it, "" if nothing is."""
        clone = self._place.clone
        try:
            if _is_missing(clone):
                return await self._make()
            if not _exists(clone / ".git"):
                return f"{clone} is no git repository, so {_new_clone(clone)}"
            return await self._check()
        except (GitFailed, OSError) as error:
            return f"the clone {clone} of the repository {self._place.name} cannot be made or read: {error}"

    async def _make(self) -> str:
        place = self._place
        new = place.clone.with_name(f".{place.name}.new")
        try:
            start = await self._branch()
            await self._write(new, start)
            new.rename(place.clone)
        except BaseException:
            await _remove(new)
            raise
        log.info("the clone %s is made", place.clone)
        if start:
            return ""
        return (
            f"the repository {place.name} has no branch {place.branch} yet: {place.clone} is empty, and `git pull` "
            "gets the branch when there is one"
        )

    async def _branch(self) -> str:
        """Return the commit of the mirror's branch; "" if there is no such branch."""
        place = self._place
        name = f"refs/heads/{place.branch}"
        listed = await self._git("for-each-ref", "--format=%(objectname) %(refname)", name, directory=place.mirror)
        found = [line.split(" ", 1) for line in listed.splitlines()]
        return next((commit for commit, each in found if each == name), "")

    async def _write(self, new: Path, start: str) -> None:
        """Write the clone to the path `new`, with the files of the commit `start` unless that is ""."""
        place = self._place
        settings = {
            # A push over the file system would fail, too, but not say what to do.
            "remote.origin.pushurl": _READ_ONLY.format(mirror=place.mirror),
            # git asks for the name of a branch otherwise, instead of failing with the words above.
            "push.default": "current",
            # What lands is the agent's own commit, so that a pull puts later work on top of it.
            "pull.rebase": "true",
        }
        given = [f"--config={key}={value}" for key, value in settings.items()]
        branch = [f"--branch={place.branch}"] if start else []
        await self._git(
            *("clone", "--quiet", "--shared", "--no-checkout", "--template=", *given, *branch),
            *("--", str(place.mirror), str(new)),
            directory=new.parent,
        )
        if start:
            await self._git("branch", "--move", "--force", place.own, directory=new)
            await self._git("reset", "--hard", "--quiet", directory=new, seconds=_CLONE_SECONDS)
        else:
            await self._git("symbolic-ref", "HEAD", f"refs/heads/{place.own}", directory=new)
            await self._git("config", f"branch.{place.own}.remote", "origin", directory=new)
            await self._git("config", f"branch.{place.own}.merge", f"refs/heads/{place.branch}", directory=new)

    async def _check(self) -> str:
        clone = self._place.clone
        remove_git_locks(clone)
        await self._follow_mirror()
        if _is_empty_file(clone / ".git/index"):
            (clone / ".git/index").unlink()
            await self._git("reset", "--quiet", directory=clone)
            log.warning("the index of %s was empty: written anew", clone)
        try:
            await self._git("rev-parse", "--quiet", "--verify", "HEAD^{commit}", directory=clone)
        except GitFailed as error:
            if await self._is_unborn():
                return ""
            return f"{clone} is damaged ({error}), and {_new_clone(clone)}"
        return ""

    async def _is_unborn(self) -> bool:
        """Return True if no commit was made yet on the branch that is checked out."""
        clone = self._place.clone
        try:
            named = (await self._git("symbolic-ref", "--quiet", "HEAD", directory=clone)).strip()
            listed = await self._git("for-each-ref", named, directory=clone)
            return not listed and not _exists(clone / ".git" / named)
        except GitFailed:
            return False

    async def _follow_mirror(self) -> None:
        """Write the present path of the mirror into the clone where an earlier one is that no longer exists.

        A state directory may have been moved, and plain processes see its paths.
        """
        place = self._place
        path = place.clone / _ALTERNATES
        lines = _alternates(place.clone)
        objects = str(place.mirror / "objects")
        moved = [line for line in _lost(lines) if line.endswith(f"/{place.name}.git/objects")]
        if objects in lines or not moved:
            return
        kept = [objects if line == moved[0] else line for line in lines if line not in moved[1:]]
        state_files.replace_lines(path, [line.encode() for line in kept])
        await self._git("remote", "set-url", "origin", str(place.mirror), directory=place.clone)
        pushed = _READ_ONLY.format(mirror=place.mirror)
        await self._git("remote", "set-url", "--push", "origin", pushed, directory=place.clone)

    async def _git(self, *arguments: str, directory: Path, seconds: float = _CHECK_SECONDS) -> str:
        return await run_git(arguments, self._environment, directory, seconds=seconds, orphans=False)


def git_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a git that reads nobody's settings but those of the repository, and runs no hook."""
    found = {name: variables[name] for name in ("PATH", "HOME", "LANG") if name in variables}
    found |= {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }
    for number, (key, value) in enumerate(_SETTINGS.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _new_clone(clone: Path) -> str:
    return f"the hive leaves it as it is: move it away and restart the agent, and a new clone is made at {clone}"


def _orphan(path: Path) -> str:
    return (
        f"{path} borrows objects of a repository that this agent does not see any more: what is not its own work "
        "cannot be read until `repos` in agent.toml names the repository again"
    )


def _directories(code: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in code.iterdir() if path.is_dir() and not path.is_symlink())
    return []


def _lacks_objects(clone: Path) -> bool:
    return bool(_lost(_alternates(clone)))


def _lost(alternates: Sequence[str]) -> list[str]:
    """Return the directories that do not exist."""
    return [line for line in alternates if line.startswith("/") and not Path(line).is_dir()]


def _alternates(clone: Path) -> list[str]:
    """Return the directories from which the clone borrows objects."""
    with suppress(OSError):
        return state_files.read_text(clone / _ALTERNATES, _MOST_ALTERNATES).splitlines()
    return []


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _is_missing(path: Path) -> bool:
    """Return True if there is nothing at the path, or an empty directory."""
    return not _exists(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir()))


def _is_empty_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


async def _remove(path: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
