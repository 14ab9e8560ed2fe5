"""Creation, update and removal of containers on this host: `nixos-container`, and the files that it leaves.

Nothing here starts or stops a container. The caller must have stopped and claimed it; `hold` is the descriptor of the
claim, which the programs inherit.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.disk_quota.conversion import other_tree
from hive_core.infra.disk_quota.quotas import make_removable
from hive_core.infra.storage import files
from hive_core.infra.storage.files import has_mount_below
from hive_core.infra.systemd.resource_control import dropin, hidden_paths
from hive_core.protocol.names import container_name
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.nixos.commands import run
from hive_core.runtimes.nixos.containers import config_files, filesystem
from hive_core.runtimes.nixos.containers.filesystem import clear_script_paths
from hive_core.runtimes.nixos.containers.inspection import (
    UNITS,
    Condition,
    HostPaths,
    inspect,
    is_marked,
    read_container_files,
)

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

_SECONDS = 120.0
"""The time limit of `nixos-container`, which builds nothing."""
_REMOVAL_SECONDS = 600.0
_REMOVAL_MEMORY = 1024**3
"""Limit of the address space of rm, in bytes; it needs about 560 for each level of nested directories."""
_DROPIN = "10-hyperhive.conf"
"""Sorts before the files of systemd for live changes (50-MemoryMax.conf), and so does not undo them at a reload."""
_NEED_RESTART = ("SYSTEM_PATH", "PRIVATE_NETWORK", "PRIVATE_USERS")
"""Lines for which a running container is restarted if they differ from its spec."""


class NixosContainers:
    """The containers of one host. `by_flag`: the unit does not know PRIVATE_USERS, see `config_files.bind_settings`."""

    def __init__(self, host_paths: HostPaths, *, user_namespaces: bool, by_flag: bool) -> None:
        self.host_paths = host_paths
        self._user_namespaces = user_namespaces
        self._by_flag = by_flag

    def lines(self, spec: AgentSpec) -> dict[str, str]:
        """Return the conf lines for `spec`."""
        return config_files.bind_settings(spec, user_namespaces=self._user_namespaces, by_flag=self._by_flag)

    def written(self, container: str) -> list[Path]:
        """Return the directories of the host in which only the container writes: its root, profiles and GC roots."""
        paths = self.host_paths
        return [paths.root(container), paths.profile(container), paths.gcroots / container]

    async def runs(self, spec: AgentSpec) -> bool:
        """Return True if an active container was started as `spec` says: closure, deployment, network, users, and what
        is hidden from it.

        Other lines may have changed with the hive's version; they are written at the next start.
        """

        def look_up() -> bool:
            text = read_container_files(self.host_paths, container_name(spec.name)).text
            wanted = self.lines(spec)
            same = text is not None and all(config_files.conf_value(text, key) == wanted[key] for key in _NEED_RESTART)
            return same and config_files.has_environment(spec) and self._hides(spec)

        return await LIFECYCLE.run(look_up)

    async def is_ours(self, name: str, run: Path) -> bool:
        """Return True if the agent has a container that this hive has created. Raises `container_unreadable`."""
        container_files = await LIFECYCLE.run(read_container_files, self.host_paths, container_name(name))
        return container_files.text is not None and is_marked(container_files.text, config_files.run_mark(run))

    async def closure(self, name: str) -> str:
        """Return the closure that the agent's container runs or ran last; empty if there is none."""
        container_files = await LIFECYCLE.run(read_container_files, self.host_paths, container_name(name))
        return config_files.conf_value(container_files.text or "", "SYSTEM_PATH") or ""

    async def check(self, spec: AgentSpec, closures: Collection[str]) -> Condition:
        """Return the condition of the container. Raises `container_in_the_way`, `container_unreadable`, and
        `bad_environment` if it cannot be configured as `spec` says.
        """
        container = container_name(spec.name)
        config_files.environment_text(config_files.harness_variables(spec))
        container_files = await LIFECYCLE.run(read_container_files, self.host_paths, container)
        return inspect(container_files, container, config_files.run_mark(spec.paths.run), {*closures, spec.closure})

    async def prepare(self, spec: AgentSpec, closures: Collection[str], hold: int) -> None:
        """Create the container, or update an existing or unfinished one, as `spec` says.

        `closures` were built for this agent. Raises `container_in_the_way`, `container_unreadable`, and the errors of
        programs.
        """
        container = container_name(spec.name)
        container_files = await LIFECYCLE.run(read_container_files, self.host_paths, container)
        state = inspect(container_files, container, config_files.run_mark(spec.paths.run), {*closures, spec.closure})
        if state == "unfinished":
            log.warning("container was left half made or half removed, it is made anew", container=container)
            await self._destroy(container, hold)
            container_files, state = await LIFECYCLE.run(read_container_files, self.host_paths, container), "absent"
        taking_over = state == "absent" and container_files.root
        if state == "absent" and (container_files.profile or container_files.root):
            log.warning("what there is of a container without a conf file is taken over", container=container)
        if state == "absent" and not taking_over:
            await in_thread(filesystem.clear_profile, self.host_paths.profile(container))
            await self._run("nixos-container", "create", container, "--system-path", spec.closure, hold=hold)
        elif container_files.system != spec.closure:
            # Where data is taken over, the conf file comes last: what an interrupted `create` leaves has
            # to be destroyed.
            await in_thread(filesystem.point_profile, self.host_paths.profile(container), spec.closure)
        await in_thread(self._rewrite, container, self.lines(spec), new=taking_over)
        await in_thread(config_files.write_environment, spec)

    async def clear_script_paths(self, container: str) -> None:
        """Remove links in the root directory that the unit's start script, run by the host's root, would follow.

        Raises OSError.
        """
        await in_thread(clear_script_paths, self.host_paths.root(container))

    async def remove(self, name: str, run: Path, closures: Collection[str], hold: int) -> bool:
        """Remove the container with its root directory, or the rest of one that was removed already.

        One that is not of this hive stays, and False is returned. Raises the errors of programs.
        """
        container = container_name(name)
        container_files = await LIFECYCLE.run(read_container_files, self.host_paths, container)
        try:
            inspect(container_files, container, config_files.run_mark(run), closures)
        except HiveError as error:
            log.warning("container not removed", container=container, why=error.message)
            return False
        if container_files.text is None and not (container_files.profile or container_files.root):
            return True
        if container_files.text is None:
            # The program does not remove a container without a conf file.
            path = self.host_paths.conf(container)
            await in_thread(files.replace, path, "AUTO_START=0\n", 0o644, durable=True)
        await self._destroy(container, hold)
        return True

    async def put_dropin(self, spec: AgentSpec, stop_timeout: float) -> bool:
        """Write the drop-in of the unit and undo live changes; returns True if systemd must reload."""
        text = dropin(spec.limits, stop_timeout, sealed=spec.sealed, hidden=self._hidden(spec), devices=spec.devices)
        return await in_thread(self._put_dropin, container_name(spec.name), text)

    def _hidden(self, spec: AgentSpec) -> list[Path]:
        """Return the paths that the container must not show."""
        # To the Nix daemon, root of a container without users of its own is the host's root, which it trusts.
        return [] if spec.nix_daemon and self._user_namespaces else [self.host_paths.nix_daemon]

    def _hides(self, spec: AgentSpec) -> bool:
        """Return True if the unit was started with exactly these paths hidden."""
        text = files.read(self.host_paths.dropin_dir(container_name(spec.name)) / _DROPIN)
        return hidden_paths(text or "") == [str(path) for path in self._hidden(spec)]

    async def drop_dropin(self, container: str) -> bool:
        """Remove the drop-in and live changes; returns True if systemd must reload."""
        return await in_thread(self._drop_dropin, container)

    async def _destroy(self, container: str, hold: int) -> None:
        """Remove a container with its files, in which its root may have put anything.

        The program would start another one for each directory below them, and leave out subvolumes of btrfs. So its
        files are removed first, in its order; what rm(1) cannot remove, an immutable directory, is left to it.
        """
        paths = self.host_paths
        root = paths.root(container)
        trees = [paths.profiles / container, paths.gcroots / container, root, other_tree(root)]
        await in_thread(filesystem.clear_destroy_paths, root)
        mounted = await LIFECYCLE.run(lambda: any(has_mount_below(tree) for tree in trees))
        line = ["rm", "-rf", *(["--one-file-system"] if mounted else []), "--", *map(str, trees)]
        for again in (False, True):
            try:
                await run(line, timeout=_REMOVAL_SECONDS, keep_fds=[hold], limits={resource.RLIMIT_AS: _REMOVAL_MEMORY})
            except HiveError as error:
                if again or mounted or not await LIFECYCLE.run(make_removable, root):
                    log.info("files of a container left to nixos-container", container=container, why=error.message)
                    break
            else:
                break
        await self._run("nixos-container", "destroy", container, hold=hold)

    async def _run(self, *line: str, hold: int) -> None:
        try:
            await run(line, timeout=_SECONDS, keep_fds=[hold])
        except HiveError as error:
            hint = error.hint or "see what is told of the container in the journal, and try again"
            raise HiveError(error.code, error.message, hint=hint, status=500) from None

    def _rewrite(self, container: str, owned: dict[str, str], *, new: bool) -> None:
        path = self.host_paths.conf(container)
        text = "AUTO_START=0\n" if new else files.read(path)
        if text is None:
            raise HiveError("container_gone", f"{path} has disappeared meanwhile", hint="try again", status=500)
        files.replace(path, config_files.rewritten_conf(text, owned), 0o644, durable=True)

    def _put_dropin(self, container: str, text: str) -> bool:
        directory = self.host_paths.dropin_dir(container)
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        changed = files.replace(directory / _DROPIN, text, 0o644)
        return _remove(self.host_paths.live_dir(container), "*") or changed

    def _drop_dropin(self, container: str) -> bool:
        gone = _remove(self.host_paths.dropin_dir(container), _DROPIN)
        return _remove(self.host_paths.live_dir(container), "*") or gone


async def in_thread(change: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call `change` in a thread to its end, so that a cancelled caller keeps its claim while files are written."""
    return await shield_to_completion(LIFECYCLE.run(change, *arguments, **named))


@contextmanager
def refusing(container: str) -> Iterator[None]:
    """Turn errors of the host's file systems into a HiveError `container_not_prepared`."""
    try:
        yield
    except OSError as error:
        why = f"{os.strerror(error.errno or 0)}{f': {error.filename}' if error.filename else ''}"
        raise HiveError(
            "container_not_prepared",
            f"the files of the container {container} cannot be written: {why}",
            hint="see whether the disk is full, and whether the daemon may write there",
            status=500,
        ) from None


def orphaned_dropins(host_paths: HostPaths) -> list[str]:
    """Return containers that no longer exist: those with a drop-in of the hive and without a conf file."""
    found = sorted(host_paths.dropins.glob(f"{UNITS}*.service.d/{_DROPIN}"))
    containers = [path.parent.name.removeprefix(UNITS).removesuffix(".service.d") for path in found]
    return [container for container in containers if not os.path.lexists(host_paths.conf(container))]


def _remove(directory: Path, pattern: str) -> bool:
    """Remove files in a directory of the daemon or systemd, and it if it is empty then; returns True if any existed."""
    found = list(directory.glob(pattern))
    for path in found:
        path.unlink()
    with suppress(OSError):
        directory.rmdir()
    return bool(found)
