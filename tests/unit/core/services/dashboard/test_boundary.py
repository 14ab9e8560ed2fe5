"""The checks of every request, and the headers of every response."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.services.dashboard.boundary import Boundary, check_csrf, csrf_token

LOCAL = Boundary("http://hive.localhost:7000")


@pytest.mark.parametrize(
    "origin",
    ["", "hive.localhost:7000", "http://hive.localhost/", "ftp://hive", "http://a b", "http://Hive", "http://h:x"],
)
def test_origins_that_are_none(origin: str) -> None:
    """A text that is no origin is refused at the start, by its name."""
    with pytest.raises(HiveError, match="no origin"):
        Boundary(origin)


@pytest.mark.parametrize(
    ("hosts", "target"),
    [
        ([], "/"),
        ([""], "/"),
        (["127.0.0.1:7000"], "/"),
        (["hive.localhost"], "/"),
        (["hive.localhost:7001"], "/"),
        (["evil.example"], "/"),
        (["hive.localhost:7000", "evil.example"], "/"),
        (["hive.localhost:7000", "hive.localhost:7000"], "/"),
        (["hive.localhost:7000"], "http://evil.example/"),
        (["hive.localhost:7000"], "http://hive.localhost:7000@evil.example/"),
        (["hive.localhost:7000"], "http://hive.localhost:70000/"),
        (["hive.localhost:7000"], "*"),
    ],
)
def test_other_hosts(hosts: list[str], target: str) -> None:
    """A request to another host name is refused, so that no cookie of ours is set or read there."""
    with pytest.raises(HiveError) as refused:
        LOCAL.check_host(hosts, target)
    assert refused.value.status == 421


@pytest.mark.parametrize(
    "target", ["/", "/agents/ada?turn=1", "http://hive.localhost:7000/", "HTTP://hive.localhost:7000/"]
)
def test_the_own_host(target: str) -> None:
    """A request to the dashboard's own address gets through, in whatever way it names it."""
    LOCAL.check_host(["Hive.LOCALHOST:7000"], target)


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ([], []),
        (["hive=hs_a"], ["hs_a"]),
        (["other=1; hive=hs_a; hive=hs_b"], ["hs_a", "hs_b"]),
        (["hive=hs_a", "hive=hs_a; hive=hs_b"], ["hs_a", "hs_b"]),
        (['hive="hs_a"; hive=ht_token; hive=; hivex=hs_c; hive=hs_<script>'], []),
        (["; ".join(f"hive=hs_{number}" for number in range(9))], ["hs_0", "hs_1", "hs_2", "hs_3"]),
    ],
)
def test_sessions_of_a_request(cookies: list[str], found: list[str]) -> None:
    """Every cookie that can be a session is looked at, up to a number, whatever stands beside it."""
    assert LOCAL.sessions(cookies) == found


def test_web_sockets_of_other_pages() -> None:
    """Only a page of ours opens a WebSocket: without an origin, or with another, it is refused."""
    LOCAL.check_web_socket({"Origin": LOCAL.origin})
    for headers in ({}, {"Origin": "http://127.0.0.1:3000"}, {"Origin": "null"}):
        with pytest.raises(HiveError) as refused:
            LOCAL.check_web_socket(headers)
        assert refused.value.code == "cross_origin"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": "http://ada.localhost:7000"},
        {"Origin": "http://hive.localhost:7000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_origins(headers: dict[str, str]) -> None:
    """A page of another origin changes nothing."""
    with pytest.raises(HiveError) as refused:
        LOCAL.check_origin(headers)
    assert refused.value.code == "cross_origin"
    LOCAL.check_origin({"Origin": LOCAL.origin, "Sec-Fetch-Site": "same-origin"})


def test_csrf_token() -> None:
    """A form is good with the token of its own session only."""
    check_csrf("hs_a", csrf_token("hs_a"))
    for token in ("", csrf_token("hs_b"), "é"):
        with pytest.raises(HiveError):
            check_csrf("hs_a", token)


def test_cookie_of_tls() -> None:
    """The cookie has the prefix that other hosts cannot set, where TLS permits it."""
    assert Boundary("https://hive.example.org").cookie == "__Host-hive"
    assert LOCAL.cookie == "hive"
