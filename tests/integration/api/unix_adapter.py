"""The `requests` library over a unix socket: what schemathesis speaks HTTP with."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

BASE_URL = "http://hive"


class _Pool(HTTPConnectionPool):
    def __init__(self, place: Path) -> None:
        super().__init__("hive", maxsize=1)
        self._place = place

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self._place)


class _Connection(HTTPConnection):
    def __init__(self, place: Path) -> None:
        super().__init__("hive")
        self._place = place

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if isinstance(self.timeout, int | float):
            connection.settimeout(self.timeout)
        connection.connect(str(self._place))
        return connection


class _Adapter(HTTPAdapter):
    def __init__(self, place: Path) -> None:
        super().__init__()
        self._pool = _Pool(place)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


def unix_session(place: Path) -> requests.Session:
    """A session whose every request goes to the socket `place`."""
    session = requests.Session()
    session.trust_env = False  # No proxy of the environment's.
    session.mount(BASE_URL, _Adapter(place))
    return session
