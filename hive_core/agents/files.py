"""An agent's directories, and the first content of its configuration."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from hive_core.errors import conflict
from hive_core.layout import AgentPaths, Layout
from hive_core.protocol import AgentConfig, SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_directories(paths: AgentPaths) -> None:
    """Make what is missing; only the daemon's user gets in."""
    for directory in (paths.config, paths.state, paths.claude, paths.own):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def prepare(paths: AgentPaths, request: SpawnRequest) -> None:
    """Make a new agent's directories and write its `agent.nix`, `agent.toml` and `prompt.md`.

    What an earlier agent of that name left under these three names is replaced. Raises `config_in_the_way`.
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


def remove_run_directory(paths: AgentPaths) -> None:
    """Remove the sockets' directory of an agent that is not running. Links in it are not followed."""
    with suppress(FileNotFoundError):
        shutil.rmtree(paths.run)


def purge(layout: Layout, name: str) -> None:
    """Remove everything that an agent left. Links are not followed (shutil.rmtree works on descriptors)."""
    with suppress(FileNotFoundError):
        shutil.rmtree(layout.agent_home(name))
    for log in layout.logs.glob(f"{name}.log*"):
        log.unlink(missing_ok=True)


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
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    except (IsADirectoryError, FileExistsError) as error:
        raise conflict(
            "config_in_the_way",
            f"cannot write {name} of the agent: {os.strerror(error.errno or 0)}",
            "an earlier agent of this name left a directory there; destroy it with --purge, or remove it",
        ) from None
