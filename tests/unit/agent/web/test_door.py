"""Hosts and origins: who may come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from hive_agent.web.door import Door
from hive_agent.web.refusal import PageError

PORT = Door("alice", 8123)
SOCKET = Door("alice", None)


def refused(check: Callable[[Mapping[str, str]], None], headers: Mapping[str, str]) -> str | None:
    try:
        check(headers)
    except PageError as error:
        return error.body.code
    return None


def test_own_host() -> None:
    """The page is at the loopback's address and its own port."""
    assert refused(PORT.check_host, {"Host": "127.0.0.1:8123"}) is None


@pytest.mark.parametrize("host", ["localhost:8123", "LOCALHOST:8123"])
def test_no_session_for_a_name(host: str) -> None:
    """Browsers look for `localhost` at ::1 first, where another agent may listen: no session is kept for that name."""
    assert refused(PORT.check_host, {"Host": host}) == "bad_host"


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8123", "127.0.0.1", "127.0.0.1:8124", "localhost", "127.0.0.1:8123.evil.example",
     "localhost:8123@evil.example", "127.0.0.1.evil.example:8123", "[::1]:8123", "0.0.0.0:8123"],
)  # fmt: skip
def test_other_hosts(host: str) -> None:
    """A name that somebody let point to the loopback (DNS rebinding) is refused."""
    assert refused(PORT.check_host, {"Host": host} if host else {}) == "bad_host"


def test_socket_has_any_host() -> None:
    """Nobody can let a name point to a unix socket."""
    assert refused(SOCKET.check_host, {"Host": "hive.example"}) is None


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({"Origin": "http://127.0.0.1:8123"}, None),
        ({"Origin": "http://127.0.0.1:8123", "Sec-Fetch-Site": "same-origin"}, None),
        ({"Sec-Fetch-Site": "same-origin"}, None),
        ({"Origin": "https://127.0.0.1:8123"}, "bad_origin"),
        ({"Origin": "http://localhost:8123"}, "bad_origin"),
        ({"Origin": "http://127.0.0.1:8124"}, "bad_origin"),
        ({"Origin": "http://127.0.0.1"}, "bad_origin"),
        ({"Origin": "null"}, "bad_origin"),
        ({"Origin": ""}, "bad_origin"),
        ({"Origin": "http://evil.example"}, "bad_origin"),
        ({"Origin": "http://127.0.0.1:8123", "Sec-Fetch-Site": "same-site"}, "bad_origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "bad_origin"),
        ({"Sec-Fetch-Site": "none"}, "bad_origin"),
    ],
)
def test_origins(headers: dict[str, str], code: str | None) -> None:
    """Only the page itself may ask and change things: not another site, another port, another name of this host."""
    assert refused(PORT.check_origin, {"Host": "127.0.0.1:8123", **headers}) == code


def test_origins_behind_the_dashboard() -> None:
    """On the socket the origin is where the browser believes to be, also over https; no other one."""
    assert refused(SOCKET.check_origin, {"Host": "hive.example", "Origin": "https://hive.example"}) is None
    assert refused(SOCKET.check_origin, {"Host": "hive.example", "Origin": "https://evil.example"}) == "bad_origin"


def test_cookies_are_told_apart() -> None:
    """Cookies do not know ports: two agents' pages on one host have two names."""
    assert len({Door("alice", 8123).cookie, Door("bob", 8123).cookie, Door("alice", 8124).cookie, SOCKET.cookie}) == 4
