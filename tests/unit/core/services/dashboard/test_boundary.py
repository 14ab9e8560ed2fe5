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


@pytest.mark.parametrize("host", ["", "127.0.0.1:7000", "hive.localhost", "hive.localhost:7001", "evil.example"])
def test_other_hosts(host: str) -> None:
    """A request to another host name is refused, so that no cookie of ours is set or read there."""
    with pytest.raises(HiveError) as refused:
        LOCAL.check_host({"Host": host})
    assert refused.value.status == 421
    LOCAL.check_host({"Host": "hive.localhost:7000"})


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
