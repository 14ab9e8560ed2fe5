"""`dashboard.sock`, for the dashboard in the name of the people who use it."""

from __future__ import annotations

from pathlib import Path

from hive_core.api.dispatch import Dispatcher, LoadLimits, Router
from hive_core.api.endpoint import Endpoint, Refused, Timed
from hive_core.api.listener import Listener
from hive_core.api.routes.tables import Services, people_endpoints
from hive_core.api.sockets.authority import VISITOR, PeopleAuthority
from hive_core.api.sockets.browser_check import check_no_browser
from hive_core.api.sockets.host import operators_access
from hive_core.api.sockets.looks import LookAudit
from hive_core.api.sockets.runner import make_runner, with_document
from hive_core.api.sockets.subjects import subject_lookups

_CONNECTIONS = 512
"""Of all people together: each open window has a stream."""


def _limits_of_people() -> LoadLimits:
    """Return the limits of each person, who may have many windows; visitors count as one person."""
    return LoadLimits(heavy=4, heavy_per_caller=2, waiting=64, following=64)


class DashboardSocket:
    """The dashboard's socket. Its mode and group protect it, and each request carries a person's credential."""

    def __init__(
        self,
        path: Path,
        group: str,
        endpoints: list[Endpoint],
        authority: PeopleAuthority,
        refused: Refused,
        timed: Timed,
    ) -> None:
        """Raises ValueError if an endpoint has no rule."""
        complete = with_document("hyperhive, for people", endpoints)
        authority.check_complete(complete)
        self._path = path
        self._mode, self._group = operators_access(group)
        limits = _limits_of_people()
        self._runner = make_runner(
            Dispatcher(Router(complete), lambda _: VISITOR, refused, timed, check_no_browser, authority, limits)
        )
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Listen for the dashboard."""
        await self._runner.setup()
        self._listener = Listener(self._runner, self._path, self._mode, self._group, connections=_CONNECTIONS)
        await self._listener.start()

    async def close(self) -> None:
        """Stop listening, let requests under way finish, and close all connections."""
        if self._listener is not None:
            self._listener.stop()
        await self._runner.cleanup()


def people_socket(
    services: Services,
    group: str,
    refused: Refused,
    timed: Timed,
) -> DashboardSocket:
    """Return the socket with the endpoints for people."""
    looked = LookAudit(services.database).record
    people, lookups = services.people, subject_lookups(services.agents, services.database)
    authority = PeopleAuthority(people.identify, services.owners.by_agent, lookups, looked)
    people.ended.append(authority.end)
    services.owners.changed.append(authority.end_all)
    place = services.layout.dashboard_socket
    return DashboardSocket(place, group, people_endpoints(services), authority, refused, timed)
