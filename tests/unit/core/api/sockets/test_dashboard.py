"""The start of `dashboard.sock`: nothing is on it without a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from hive_core.api.routes.tables import Services, operators_endpoints, people_endpoints
from hive_core.api.rules import EndpointRule
from hive_core.api.sockets import DashboardSocket, PeopleAuthority, subject_lookups
from tests.unit.core.api.sockets.people_hive import PeopleHive, answering, people_hive

SERVICES = cast(Services, MagicMock())
HOST_ONLY = {
    "/v1/database",
    "/v1/database/copy",
    "/v1/proposals/reindex",
    "/v1/repositories",
    "/v1/repositories/{repo}/set",
    "/v1/repositories/{repo}/remove",
    "/v1/repositories/{repo}/send",
    "/v1/host-keys",
    "/v1/agents/{name}/page-tickets",
    "/v1/set-up-links",
    "/v1/people",
    *(f"/v1/people/{{name}}/{verb}" for verb in ("link", "role", "remove")),
}
"""Endpoints that reach the host, its repositories' credentials and checks, or are for programs beside the daemon."""


def socket(endpoints: list[Any]) -> DashboardSocket:
    authority = PeopleAuthority(MagicMock(), {}, subject_lookups(MagicMock(), MagicMock()), MagicMock())
    return DashboardSocket(Path("/d"), "", endpoints, authority, MagicMock(), MagicMock())


async def test_an_endpoint_without_a_rule_does_not_start() -> None:
    """An endpoint on which nobody has decided keeps the socket from being made."""
    with pytest.raises(ValueError, match="GET /v1/x has no rule"):
        socket([answering(None)])


async def test_a_subject_that_cannot_be_looked_up_does_not_start() -> None:
    """A subject without a look-up would be open to everybody."""
    with pytest.raises(ValueError, match="invented"):
        socket([answering(EndpointRule("viewer", cast(Any, "invented")))])


async def test_the_table_for_people_is_complete() -> None:
    """Every endpoint for people has a rule whose subject can be looked up."""
    socket(people_endpoints(SERVICES))


def test_what_reaches_the_host_is_not_for_people() -> None:
    """Host-only endpoints are not in the table for people, whoever they are, and have no rule."""
    people = {(each.method, each.path) for each in people_endpoints(SERVICES)}
    host_only = [each for each in operators_endpoints(SERVICES) if (each.method, each.path) not in people]
    assert {each.path for each in host_only} == HOST_ONLY
    assert [each.path for each in host_only if each.rule is not None] == []


async def test_a_browser_is_refused(tmp_path: Path) -> None:
    """The dashboard is the only one that browsers speak to: what they send by themselves is refused."""

    def make(_: PeopleHive) -> list[Any]:
        return [answering(EndpointRule("viewer"))]

    async with people_hive(tmp_path, make) as hive:
        for headers in ({"Origin": "http://hive.localhost"}, {"Sec-Fetch-Site": "none"}, {"Host": "127.0.0.1"}):
            seen = await hive.ask("hs_vera", "GET", "/v1/x", headers=headers)
            assert (seen.status, seen.code) == (403, "browser_request")
