"""The commands `run`, `ps`, `stop` and `logs` of hive-ag3nt: programs that stay when the turn ends."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from hive_agent.environment import AgentEnvironment
from hive_agent.programs.records import (
    MOST_BYTES,
    NAME,
    STARTER,
    Order,
    ProgramRecord,
    Status,
    connect,
    read_records,
)
from hive_core.text import printable_line

COMMANDS = ("run", "ps", "stop", "logs")
_REFUSED = 1
_UNREACHABLE = 3
_START_SECONDS = 40.0
_RESTART_SECONDS = 20.0
"""In which a harness that is being restarted listens again."""
_AGAIN_SECONDS = 0.2
_STOP_SECONDS = 20.0
_SETTLE_SECONDS = 1.0
"""After a start, in which a program that ends at once is reported."""
_TAIL_BYTES = 256 * 1024
_FOLLOW_SECONDS = 0.2
_ENDED_LINES = 10
_COMMAND_LENGTH = 200
_REASON_LENGTH = 500


def add_arguments(commands: Any) -> None:
    """Add the commands to the parser's."""
    run = commands.add_parser(
        "run",
        help="start a program that stays when the turn ends, for example a development server",
        usage="%(prog)s --name NAME [--env NAME[=VALUE]]... -- COMMAND [ARGUMENT]...",
        epilog="It runs in the current directory until it ends, or until `stop`; a restart of the agent starts it "
        "again. It gets the PATH and the named variables from here, the others from the harness. Named variables are "
        "stored in the agent's state: name no secrets.",
    )
    run.add_argument("--name", type=_name, required=True, help="its name: letters, digits and hyphens")
    run.add_argument(
        "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable for it; without value, as here"
    )
    run.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER, help="the program and its arguments")
    ps = commands.add_parser("ps", help="list the programs that `run` has started")
    ps.add_argument("--json", action="store_true", help="as JSON")
    stop = commands.add_parser("stop", help="end programs that `run` has started")
    stop.add_argument("names", metavar="NAME", type=_name, nargs="+")
    logs = commands.add_parser("logs", help="show the output of a program that `run` has started")
    logs.add_argument("name", metavar="NAME", type=_name)
    logs.add_argument("-n", "--lines", type=int, default=100, help="only the last lines (default: %(default)d)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the program ends")


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: use up to 32 of a-z, 0-9 and -")
    return text


def execute(environment: AgentEnvironment, given: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code and writes errors to stderr."""
    directory = environment.programs
    match given.command:
        case "run":
            argv = given.argv[1:] if given.argv[:1] == ["--"] else given.argv
            if not argv:
                return _fail("no command is given", "hive-ag3nt run --name web -- npm run dev", 2)
            return _run(directory, given.name, argv, _variables(given.env, environment.variables))
        case "ps":
            return _list(directory, as_json=given.json)
        case "stop":
            return max(_stop(ProgramRecord(directory / name)) for name in given.names)
        case _:
            return _logs(ProgramRecord(directory / given.name), given.lines, follow=given.follow)


def _variables(named: Sequence[str], here: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the program gets from the caller."""
    found = {"PATH": here["PATH"]} if "PATH" in here else {}
    for word in named:
        name, separator, value = word.partition("=")
        if separator or name in here:
            found[name] = value if separator else here[name]
    return found


def _run(directory: Path, name: str, argv: list[str], variables: dict[str, str]) -> int:
    order = Order(name=name, argv=argv, directory=str(Path.cwd()), environment=variables)
    line = json.dumps({"run": order.model_dump(mode="json")}).encode() + b"\n"
    if len(line) > MOST_BYTES:
        return _fail("the command and its variables are too long", "put them into a script", _REFUSED)
    try:
        with _reach_starter(directory) as starter:
            starter.sendall(line)
            with starter.makefile("rb") as answer:
                reply = json.loads(answer.readline(MOST_BYTES) or b"null")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it does not answer"
        return _fail(f"the harness cannot be asked to start it: {why}", "try again in some seconds", _UNREACHABLE)
    if not isinstance(reply, dict) or "error" in reply:
        reply = reply or {"error": "the harness is being restarted", "hint": "try again in some seconds"}
        return _fail(str(reply["error"]), str(reply.get("hint", "")), _REFUSED)
    record = ProgramRecord(directory / name)
    if _wait_for_end(record, b"", _SETTLE_SECONDS):
        status = record.status()
        sys.stderr.write("".join(f"{text}\n" for text in _last_lines(record, _ENDED_LINES)))
        return _fail(f"{name} has ended already ({status.reason})", f"hive-ag3nt logs {name}", _REFUSED)
    sys.stdout.write(f"{name} runs, as process {reply.get('pid')}; its output: hive-ag3nt logs {name}\n")
    return 0


def _reach_starter(directory: Path) -> socket.socket:
    """Connect to the harness, and wait for one that is being restarted. Raises OSError if none comes."""
    end = time.monotonic() + _RESTART_SECONDS
    waits = False
    while True:
        try:
            return connect(directory, STARTER, _START_SECONDS)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() >= end:
                raise
            if not waits:
                sys.stderr.write("the harness is being restarted; waiting for it\n")
                waits = True
            time.sleep(_AGAIN_SECONDS)


def _wait_for_end(record: ProgramRecord, words: bytes, seconds: float) -> bool:
    """Send `words` to the keeper and wait for its end; returns False if the time was not enough."""
    connection = record.connect()
    if connection is None:
        return True
    with connection:
        connection.settimeout(seconds)
        try:
            if words:
                connection.sendall(words)
            return connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def _list(directory: Path, *, as_json: bool) -> int:
    rows = [_row(record, record.status()) for record in read_records(directory)]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return 0
    if not rows:
        sys.stdout.write("no programs: hive-ag3nt run --name web -- COMMAND starts one\n")
    for row in rows:
        ports = ", ".join(str(port) for port in row["ports"])
        details = [
            f"since {row['started_at']}" if row["state"] == "running" else f"{row['reason']}, {row['ended_at'] or ''}",
            f"ports {ports}" if ports else "",
            f"started again: {row['restart_reason']}" if row["restart_reason"] else "",
        ]
        words = printable_line(shlex.join(row["argv"]), _COMMAND_LENGTH)
        shown = "; ".join(detail.strip(", ") for detail in details if detail)
        sys.stdout.write(f"{row['name']:<12} {row['state']:<11} {shown}: {words}\n")
    return 0


def _row(record: ProgramRecord, status: Status) -> dict[str, Any]:
    from hive_agent.programs.ports import listening_ports  # noqa: PLC0415 (the other commands do without)

    order = record.order()
    running = status.state == "running"
    return {
        "name": record.name,
        "state": status.state,
        "reason": printable_line(status.reason, _REASON_LENGTH),
        "pid": status.pid if running else None,
        "started_at": _time(status.started_at),
        "ended_at": None if running else _time(status.ended_at),
        "ports": listening_ports(status.keeper) if running and status.keeper is not None else [],
        "restart_reason": printable_line(order.restart_reason, _REASON_LENGTH) if order is not None else "",
        "directory": order.directory if order is not None else "",
        "argv": order.argv if order is not None else [],
    }


def _time(moment: Any) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def _stop(record: ProgramRecord) -> int:
    if record.order() is None:
        return _fail(f"there is no program {record.name}", "hive-ag3nt ps lists them", _REFUSED)
    status = record.status()
    if status.state == "running":
        if not _wait_for_end(record, b"stop\n", _STOP_SECONDS):
            return _fail(f"{record.name} does not end", "try again", _REFUSED)
        sys.stdout.write(f"{record.name} is stopped ({record.status().reason})\n")
        return 0
    if status.state == "interrupted":
        status.state = "stopped"
        record.settle(status)
    sys.stdout.write(f"{record.name} does not run ({status.reason})\n")
    return 0


def _logs(record: ProgramRecord, lines: int, *, follow: bool) -> int:
    if record.order() is None:
        return _fail(f"there is no program {record.name}", "hive-ag3nt ps lists them", _REFUSED)
    connection = record.connect() if follow else None
    position = _size(record)
    sys.stdout.write("".join(f"{text}\n" for text in _last_lines(record, lines)))
    sys.stdout.flush()
    if connection is not None:
        with connection:
            _follow(record, connection, position)
    return 0


def _last_lines(record: ProgramRecord, most: int) -> list[str]:
    text = "".join(_read(record, name) for name in ("log.1", "log"))
    return text.splitlines()[-most:] if most > 0 else []


def _read(record: ProgramRecord, name: str) -> str:
    try:
        with _open(record, name) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _TAIL_BYTES))
            return bytes(file.read(_TAIL_BYTES)).decode(errors="replace")
    except OSError:
        return ""


def _open(record: ProgramRecord, name: str) -> BinaryIO:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(record.directory / name, flags), "rb")


def _size(record: ProgramRecord) -> int:
    try:
        return (record.directory / "log").lstat().st_size
    except OSError:
        return 0


def _follow(record: ProgramRecord, keeper: socket.socket, position: int) -> None:
    """Write what is added to the output, until the keeper ends."""
    keeper.setblocking(False)
    ended = False
    while True:
        size = _size(record)
        position = 0 if size < position else position  # the file was replaced
        if size > position:
            with _open(record, "log") as file:
                file.seek(position)
                data = file.read(size - position)
            position += len(data)
            sys.stdout.write(data.decode(errors="replace"))
            sys.stdout.flush()
        elif ended:
            return
        else:
            try:
                ended = keeper.recv(1) == b""
            except BlockingIOError:
                time.sleep(_FOLLOW_SECONDS)
            except OSError:
                ended = True


def _fail(message: str, hint: str, code: int) -> int:
    sys.stderr.write(f"{message}{f' ({hint})' if hint else ''}\n")
    return code
