"""The endpoint that opens a session in an agent and passes its descriptor to the caller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web

from hive_core.agents import AgentRegistry
from hive_core.agents.store import AgentRecord
from hive_core.api.endpoint import MOST_VALUES_OF_SPAWN, ApiCall, Endpoint
from hive_core.api.lent_sockets import UnixSockets
from hive_core.api.responses import DescriptorResponse
from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError, conflict
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.layout import ACCESS_WANTED, Layout
from hive_core.protocol import MAX_REQUEST_BYTES, AccessAnswer, AccessRequest
from hive_core.protocol.access.opening import Opening, Terminal

_MOST_OPENING = 128 * 1024
"""Largest opening: it is written into the buffer of a socket whose other end may never read."""
_MOST_AUDITED = 32
_LONGEST_AUDITED = 200
_WANTED_SECONDS = 30.0
"""Time for which a container is told that somebody wants a session."""


def sessions(agents: AgentRegistry, sockets: UnixSockets, database: Database, layout: Layout) -> list[Endpoint]:
    """Return the operator's endpoint for sessions in agents."""
    wanted = _WantedFiles(layout.run_dir / "agents")

    async def open_session(call: ApiCall) -> web.StreamResponse:
        record = agents.record(call.path["name"])
        name, actor, request = record.name, call.caller.actor, call.read(AccessRequest)
        _check_complete(request)
        _check_running(agents, name)
        opening = _opening(record, actor, request).encode()
        if len(opening) > _MOST_OPENING:
            raise HiveError(
                "opening_too_large",
                f"arguments and variables have {len(opening)} bytes as JSON, the most is {_MOST_OPENING}",
                hint="pass what is long on stdin or in a file",
                status=413,
            )
        detail = _audited(request)
        await database.write(lambda db: audit.append(db, actor=actor, action="access", subject=name, detail=detail))
        _check_running(agents, name)  # It may have been stopped or destroyed meanwhile.
        connection = sockets.connect(name)
        try:
            wanted.show(layout.agent(name).access_wanted)
            _write_opening(connection, opening)
        except BaseException:
            connection.close()
            raise
        return DescriptorResponse(AccessAnswer(agent=name, who=actor).model_dump_json().encode(), connection)

    return [
        Endpoint(
            "POST",
            "/v1/agents/{name}/access",
            "Open a session in an agent: a command, files, or connections to a port",
            open_session,
            AccessAnswer,
            body=AccessRequest,
            most_bytes=MAX_REQUEST_BYTES,
            most_values=MOST_VALUES_OF_SPAWN,
            rule=EndpointRule("operator", "agent"),
        )
    ]


def _check_complete(request: AccessRequest) -> None:
    """Raise HiveError `bad_session` for a request that lacks what its kind needs."""
    problem = ""
    if request.kind in ("connect", "forward") and not request.port:
        problem = "a port from 1 to 65535"
    elif request.kind in ("get", "put") and not request.path.startswith("/"):
        problem = "an absolute path"
    elif request.kind == "put" and request.name in ("", ".", ".."):
        problem = "the name of what is put"
    if problem:
        raise HiveError("bad_session", f"a session of the kind {request.kind} needs {problem}", status=400)


def _check_running(agents: AgentRegistry, name: str) -> None:
    agents.record(name)
    unit = agents.unit(name)
    if unit is None or unit.lifecycle not in ("starting", "running"):
        state = "stopped" if unit is None else unit.lifecycle
        hint = f'start it: "hive-c0re start {name}"'
        if state in ("backoff", "failed"):
            hint = f'see why it ended: "hive-c0re show {name}" and "hive-c0re logs {name}"'
        raise conflict("not_running", f"{name} does not run: it is {state}", hint)


def _opening(record: AgentRecord, actor: str, request: AccessRequest) -> Opening:
    size = request.terminal
    return Opening(
        kind=request.kind,
        who=actor,
        argv=tuple(request.argv),
        terminal=None if size is None else Terminal(size.columns, size.rows, size.term),
        directory=request.directory,
        environment=request.environment,
        port=request.port,
        path=request.path,
        name=request.name,
        into=request.into,
        backend=record.config.backend,
        variables=tuple(record.config.environment),
        secrets=tuple(record.config.secrets),
    )


def _write_opening(connection: socket.socket, opening: bytes) -> None:
    """Write the opening into the connection's buffer, which it fits into. Raises `access_busy`."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MOST_OPENING)
    try:
        if connection.send(opening, socket.MSG_NOSIGNAL) == len(opening):
            return
    except OSError:
        pass
    raise HiveError("access_busy", "the agent's side has closed the session before it began", status=503)


def _audited(request: AccessRequest) -> Mapping[str, object]:
    """Return the session for the audit log, without variables, and with arguments cut."""
    found: dict[str, object] = {"kind": request.kind}
    if request.kind == "run":
        found |= {"argv": _shortened(request.argv), "terminal": request.terminal is not None}
    for key in ("directory", "port", "path", "name"):
        if value := getattr(request, key):
            found[key] = value
    return found


def _shortened(argv: Sequence[str]) -> Sequence[str]:
    cut = [part if len(part) <= _LONGEST_AUDITED else f"{part[:_LONGEST_AUDITED]}…" for part in argv[:_MOST_AUDITED]]
    return cut if len(argv) <= _MOST_AUDITED else [*cut, f"… and {len(argv) - _MOST_AUDITED} more"]


class _WantedFiles:
    """The files that start the agent's side of sessions in containers, each for a while after the last request.

    They lie in directories that only the daemon can write.
    """

    def __init__(self, directories: Path) -> None:
        """Remove those that an earlier daemon has left in the agents' run `directories`."""
        self._timers: dict[Path, asyncio.TimerHandle] = {}
        for left in directories.glob(f"*/{ACCESS_WANTED}"):
            left.unlink(missing_ok=True)

    def show(self, path: Path) -> None:
        """Make the file, and remove it after a while. Raises HiveError `cannot_listen`."""
        if (timer := self._timers.pop(path, None)) is not None:
            timer.cancel()
        try:
            path.touch(0o600)
        except OSError as error:
            raise HiveError("cannot_listen", f"cannot make {path}: {error.strerror}") from None
        self._timers[path] = asyncio.get_running_loop().call_later(_WANTED_SECONDS, self._remove, path)

    def _remove(self, path: Path) -> None:
        del self._timers[path]
        path.unlink(missing_ok=True)
