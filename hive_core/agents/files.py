"""An agent's directories, and the first content of its configuration."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from hive_core.agents.trash import change_mode
from hive_core.errors import HiveError, conflict
from hive_core.layout import AgentPaths
from hive_core.protocol import AgentConfig, SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_THE_WAY = frozenset(
    {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY}
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_directories(paths: AgentPaths) -> None:
    """Make what is missing, and see to it that only the daemon's user gets in; links are not followed.

    Raises `config_in_the_way`, `disk_full`.
    """
    for directory in (paths.config.parent, paths.config, paths.state, paths.claude, paths.run, paths.own):
        with _refusing(f"make {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(directory)


def prepare(paths: AgentPaths, request: SpawnRequest) -> None:
    """Make a new agent's directories and write its `agent.nix`, `agent.toml` and `prompt.md`.

    What an earlier agent of that name left under these three names is replaced. Raises `config_in_the_way`,
    `disk_full`.
    """
    make_directories(paths)
    prompt = _render("prompt.md.j2", name=request.name, prompt=request.prompt.rstrip("\n"))
    nix = _render("agent.nix.j2", name=request.name) if request.agent_nix is None else request.agent_nix
    with _opened(paths.config) as directory:
        _write(directory, "agent.nix", nix)
        _write(directory, "agent.toml", config_as_toml(request.config))
        _write(directory, "prompt.md", prompt)


def config_as_toml(config: AgentConfig) -> str:
    """The text of `agent.toml`. TOML has no null: what is None is left out, which reads back as None."""
    return tomli_w.dumps(config.model_dump(exclude_none=True))


def _render(template: str, **values: str) -> str:
    # Imported here: only a spawn needs it, and the daemon's start is measured.
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hive_core.agents"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(values)


def _make_private(directory: Path) -> None:
    # The agent may have changed its own directory's mode, even so that it cannot be opened any more but by name.
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            os.chown(f"/proc/self/fd/{descriptor}", os.geteuid(), -1)
        if stat.S_IMODE(found.st_mode) != 0o700:
            change_mode(descriptor, 0o700)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(directory: int, name: str, text: str) -> None:
    """Put a file in place of whatever has the name: an agent may have left a link there."""
    new = f".{name}.new"
    with _refusing(f"write {name} of the agent"):
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=directory)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn the failures that an agent or a full disk can cause into refusals."""
    try:
        yield
    except OSError as error:
        why = f"cannot {what}: {os.strerror(error.errno or 0)}"
        if error.errno in _NO_ROOM:
            hint = "make room on the disk that holds the state directory, or raise its quota"
            raise HiveError("disk_full", why, hint=hint, status=507) from None
        if error.errno in _IN_THE_WAY:
            hint = "an earlier agent of this name left something there; destroy it with --purge, or remove it"
            raise conflict("config_in_the_way", why, hint) from None
        raise
