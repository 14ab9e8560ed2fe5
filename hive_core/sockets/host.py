"""`host.sock`: the operator's."""

from __future__ import annotations

import functools
import grp
import pwd
from pathlib import Path

from aiohttp import web

from hive_core.api.dispatch import Frame
from hive_core.api.endpoint import Caller, Endpoint, Refused, Timed
from hive_core.api.listener import Listener, peer
from hive_core.protocol.names import OPERATOR
from hive_core.sockets.routing import Router
from hive_core.sockets.serving import make_runner, with_document

_CONNECTIONS = 256


class HostSocket:
    """Who may open it is decided by its mode and group; the kernel names the user for the audit table."""

    def __init__(self, path: Path, group: str, endpoints: list[Endpoint], refused: Refused, timed: Timed) -> None:
        self._path = path
        self._group = _group_id(group)
        router = Router(with_document("hyperhive, for the operator", endpoints))
        self._runner = make_runner(Frame(router, _identify, refused, timed))
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Listen."""
        await self._runner.setup()
        mode = 0o600 if self._group is None else 0o660
        self._listener = Listener(self._runner, self._path, mode, self._group, connections=_CONNECTIONS)
        await self._listener.start()

    async def close(self) -> None:
        """Stop listening, let requests under way finish, hang up."""
        if self._listener is not None:
            self._listener.stop()
        await self._runner.cleanup()


def _identify(request: web.BaseRequest) -> Caller:
    return Caller(OPERATOR, "operator", functools.partial(_actor, request))


def _actor(request: web.BaseRequest) -> str:
    try:
        _, user = peer(request)
    except ConnectionResetError:
        return OPERATOR  # Gone before its name was needed.
    return f"{OPERATOR}:{_user_name(user)}"


@functools.lru_cache(maxsize=64)
def _user_name(user: int) -> str:
    # Kept, since a look-up reads files and may ask a directory server.
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
