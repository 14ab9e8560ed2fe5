"""The records of an agent's long-running programs: what was ordered, and what became of it.

Each program has a directory `programs/NAME` in the agent's state. The agent can change everything there, so what is
read is checked, and bounded in size.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from hive_agent.infra import state_files

NAME = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
MOST_RUNNING = 10
MOST_KEPT = 30
"""Programs with a record, running or ended. The oldest that has ended makes room for the next one."""
MOST_BYTES = 128 * 1024
"""Of the JSON of an order."""
STARTER = "starter"
"""The socket of the harness, beside the directories of the programs."""

Name = Annotated[str, StringConstraints(pattern=NAME)]
State = Literal["running", "exited", "stopped", "interrupted", "failed"]
"""`interrupted`: ended with the harness, whose next start continues it. `failed`: could not be started (again)."""


class Order(BaseModel, extra="forbid"):
    """A program to keep: its command, directory and environment; and the times of its latest starts."""

    name: Name
    argv: Annotated[list[str], Field(min_length=1, max_length=1_000)]
    directory: str
    environment: dict[str, str]
    starts: Annotated[list[datetime], Field(max_length=20)] = []
    restart_reason: Annotated[str, StringConstraints(max_length=200)] = ""


class Status(BaseModel):
    """The state of a program as its keeper has stored it."""

    state: State = "failed"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    keeper: int | None = None
    pid: int | None = None
    reason: Annotated[str, StringConstraints(max_length=2_000)] = ""


class ProgramRecord:
    """The record of one program, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name

    def order(self) -> Order | None:
        """Return what was ordered; None if that is missing or not valid."""
        found = state_files.load_model(self.directory / "order.json", Order, MOST_BYTES)
        return found if found is not None and found.name == self.name else None

    def status(self) -> Status:
        """Return the state as it is now: a program whose keeper does not answer was interrupted."""
        alive = self.is_alive()
        status = state_files.load_model(self.directory / "status.json", Status) or Status(reason="was not started")
        if status.state == "running" and not alive:
            status.state, status.reason = "interrupted", "its keeper was killed"
        return status

    def store(self, order: Order) -> None:
        """Write the order for a keeper. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_files.replace_lines(self.directory / "order.json", [order.model_dump_json().encode()])

    def settle(self, status: Status) -> None:
        """Store the state of a program that no keeper has."""
        state_files.save_model(self.directory / "status.json", status)

    def is_alive(self) -> bool:
        """Return True if the keeper of the program answers."""
        connection = self.connect()
        if connection is not None:
            connection.close()
        return connection is not None

    def connect(self) -> socket.socket | None:
        """Connect to the keeper, whose end ends the connection; None if there is no keeper."""
        try:
            return connect(self.directory, "control")
        except OSError:
            return None

    def remove(self) -> None:
        """Remove the record of a program that has ended."""
        for name in ("log", "log.1", "status.json", "status.new", "order.json", "order.json.new", "control"):
            with suppress(OSError):
                (self.directory / name).unlink()
        with suppress(OSError):
            self.directory.rmdir()


def read_records(programs: Path) -> list[ProgramRecord]:
    """List the records below `programs`, by name. Those that no harness can have written are left out."""
    try:
        names = sorted(entry.name for entry in os.scandir(programs) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    records = [ProgramRecord(programs / name) for name in names[: 10 * MOST_KEPT]]
    return [record for record in records if record.order() is not None]


def connect(directory: Path, name: str, timeout: float | None = 5.0) -> socket.socket:
    """Connect to a unix socket by its directory, as its address has at most 107 bytes. Raises OSError."""
    with opened(directory) as descriptor:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        except BaseException:
            connection.close()
            raise
        return connection


def listen(directory: Path, name: str) -> socket.socket:
    """Listen on a unix socket that replaces what has its name. Raises OSError."""
    with opened(directory) as descriptor:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=descriptor)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(f"/proc/self/fd/{descriptor}/{name}")
            listener.listen(16)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    """Open a directory that is no symbolic link; yields the descriptor."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
