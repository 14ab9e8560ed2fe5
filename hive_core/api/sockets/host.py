"""`host.sock`, for the operator."""

from __future__ import annotations

import functools
import grp
import pwd
from pathlib import Path

from aiohttp import web

from hive_core.api.dispatch import Dispatcher, LoadLimits, Router
from hive_core.api.endpoint import Caller, Endpoint, Refused, Timed
from hive_core.api.listener import Listener, peer
from hive_core.api.sockets.browser_check import check_no_browser
from hive_core.api.sockets.runner import make_runner, with_document
from hive_core.protocol.names import OPERATOR

_HOST_CONNECTIONS = 256


def _operators_limits() -> LoadLimits:
    """Return the limits of `host.sock`, where the operator is the only caller, with many programs.

    Its requests wait for none of an agent's.
    """
    return LoadLimits(heavy=4, heavy_per_caller=4, waiting=64, following=64)


class HostSocket:
    """The operator's socket. Its mode and group protect it; the kernel names the user for the audit table."""

    def __init__(self, path: Path, group: str, endpoints: list[Endpoint], refused: Refused, timed: Timed) -> None:
        self._path = path
        self._mode, self._group = operators_access(group)
        router = Router(with_document("hyperhive, for the operator", endpoints))
        self._runner = make_runner(
            Dispatcher(router, _identify, refused, timed, check_no_browser, limits=_operators_limits())
        )
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Listen for the operator."""
        await self._runner.setup()
        self._listener = Listener(self._runner, self._path, self._mode, self._group, connections=_HOST_CONNECTIONS)
        await self._listener.start()

    async def close(self) -> None:
        """Stop listening, let requests under way finish, and close all connections."""
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


def operators_access(group: str) -> tuple[int, int | None]:
    """Return mode and group of sockets for the operator; without the group only the daemon's user may connect."""
    try:
        return 0o660, grp.getgrnam(group).gr_gid
    except KeyError:
        return 0o600, None
