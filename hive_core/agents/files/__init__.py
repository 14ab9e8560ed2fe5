"""An agent's directories and the first files of its configuration."""

from __future__ import annotations

import base64
import errno
import itertools
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from hive_core.agents.purge import change_mode
from hive_core.errors import bad_request, conflict
from hive_core.infra.disk_quota.quotas import make_subvolume
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import open_directory
from hive_core.layout import AgentPaths
from hive_core.protocol import AgentConfig, SpawnRequest
from hive_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_THE_WAY = frozenset(
    {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY}
)


def make_directories(paths: AgentPaths) -> None:
    """Create missing directories and give only the daemon's user access to them; links are not followed.

    Raises:
        HiveError: `config_in_the_way`, `disk_full`.
    """
    _make_home(paths.config.parent)
    _make(paths.config, paths.state, paths.claude, paths.code, paths.run, paths.secrets_mount)


def create_directories(paths: AgentPaths) -> None:
    """Create a new agent's directories as `make_directories` does, but for `config`.

    The `config` of an earlier agent of the name is renamed to `config.1`, `config.2`, and so on.
    """
    _make_home(paths.config.parent)
    with _refusing(f"move {paths.config} aside"):
        _move_aside(paths.config)
    _make(paths.state, paths.claude, paths.code, paths.run, paths.secrets_mount)


def discard_directories(paths: AgentPaths, *, clone: bool) -> None:
    """Remove what `create_directories` and a first clone have made for an agent that was not created after all.

    What an earlier agent of the name has left stays. Its `config` is in place until `create_directories` has succeeded;
    only after that there can be a `clone`.
    """
    if clone:
        shutil.rmtree(paths.config, ignore_errors=True)
    for directory in (paths.secrets_mount, paths.run, paths.state, paths.claude, paths.code, paths.config.parent):
        with suppress(OSError):
            directory.rmdir()


def first_files(request: SpawnRequest) -> dict[str, bytes]:
    """The first files of a new agent's configuration repository, by path."""
    prompt = _render("prompt.md.j2", name=request.name, prompt=request.prompt.rstrip("\n"))
    if request.packages and request.agent_nix is not None:
        raise bad_request(
            "packages and agent.nix are given: the packages would go into the template that agent.nix replaces",
            "name the packages in hyperhive.packages of agent.nix, or leave one of the two out",
        )
    nix = request.agent_nix
    if nix is None:
        nix = _render("agent.nix.j2", name=request.name, packages=list(dict.fromkeys(request.packages)))
    texts = {"agent.nix": nix, "agent.toml": config_as_toml(request.config), "prompt.md": prompt}
    if taken := sorted(texts.keys() & request.files.keys()):
        raise bad_request(f"{taken[0]} is given twice", "give agent.nix, agent.toml and prompt.md by their own fields")
    return {path: _decoded(path, text) for path, text in request.files.items()} | {
        path: text.encode() for path, text in texts.items()
    }


def _decoded(path: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise bad_request(f"the content of {shown(path)} is not valid Base64", "encode the bytes of the file") from None


def config_as_toml(config: AgentConfig) -> str:
    """The text of `agent.toml`. TOML has no null: values of None are left out, and are read back as None.

    An empty `script` is left out, too: with it, no `[[script]]` may be added below.
    """
    values = config.model_dump(exclude_none=True)
    return tomli_w.dumps({key: value for key, value in values.items() if key != "script" or value})


def _render(template: str, **values: str | list[str]) -> str:
    # Imported here: only a spawn needs it, and the daemon's start is measured.
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hive_core.agents.files"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(values)


def _make_home(home: Path) -> None:
    """Create the directory that has a quota together with all below it."""
    with _refusing(f"make {home}"):
        make_subvolume(home, 0o700)
    _make(home)


def _make(*directories: Path) -> None:
    for directory in directories:
        with _refusing(f"make {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private_directory(directory)


def _move_aside(path: Path) -> None:
    # None of these calls follows a link of that name.
    with suppress(OSError):
        path.rmdir()  # An empty directory is not worth keeping.
    if os.path.lexists(path):
        names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
        path.rename(next(name for name in names if not os.path.lexists(name)))


def _make_private_directory(directory: Path) -> None:
    # O_PATH: the agent may have taken every permission away from its own directory, so that nothing else opens it.
    with open_directory(directory, path_only=True) as descriptor:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            os.chown(f"/proc/self/fd/{descriptor}", os.geteuid(), -1)
        if stat.S_IMODE(found.st_mode) != 0o700:
            change_mode(descriptor, 0o700)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Raise a HiveError for the failures that an agent or a full disk can cause."""
    try:
        with disk_full_as_error(what):
            yield
    except OSError as error:
        why = f"cannot {what}: {os.strerror(error.errno or 0)}"
        if error.errno in _IN_THE_WAY:
            hint = "an earlier agent of this name left something there; destroy it with --purge, or remove it"
            raise conflict("config_in_the_way", why, hint) from None
        raise
