"""The sockets of the API: `host.sock`, `dashboard.sock` and the agents' `core.sock`."""

from __future__ import annotations

from hive_core.api.sockets.authority import PeopleAuthority
from hive_core.api.sockets.core import CoreSockets
from hive_core.api.sockets.dashboard import DashboardSocket, people_socket
from hive_core.api.sockets.host import HostSocket, operators_access
from hive_core.api.sockets.runner import make_runner, with_document
from hive_core.api.sockets.subjects import subject_lookups

__all__ = [
    "CoreSockets",
    "DashboardSocket",
    "HostSocket",
    "PeopleAuthority",
    "make_runner",
    "operators_access",
    "people_socket",
    "subject_lookups",
    "with_document",
]
