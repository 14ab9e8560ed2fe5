"""URLs of upstreams."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.work.repositories.upstream.source import parse_source


@pytest.mark.parametrize(
    ("url", "scheme", "user", "server", "known"),
    [
        ("https://github.com/you/web.git", "https", "", "github.com", "github.com"),
        ("https://bot@git.example.org:8443/a/b", "https", "bot", "git.example.org:8443", "[git.example.org]:8443"),
        ("ssh://git@git.example.org:2222/a/b.git", "ssh", "git", "git.example.org:2222", "[git.example.org]:2222"),
        ("git@GitHub.com:you/web.git", "ssh", "git", "github.com", "github.com"),
        ("ssh://git@[::1]:22/a", "ssh", "git", "[::1]:22", "::1"),
    ],
)
def test_parts(url: str, scheme: str, user: str, server: str, known: str) -> None:
    """A URL is taken apart as git and ssh do."""
    found = parse_source(url)
    assert (found.url, found.scheme, found.user, found.server, found.known_host) == (url, scheme, user, server, known)


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/a",
        "git://github.com/a",
        "file:///etc",
        "/etc",
        "ext::sh -c touch% /tmp/x",
        "ssh://-oProxyCommand=x/a",
        "-oProxyCommand=x:a",
        "git@host:-a",
        "https://host/a b",
        "https://host/a\n",
        "https://host/$(x)",
        "https://host/a/../../b",
        "https://host:99999/a",
        "https://host",
        "https://github.com\\@evil.org/a",
        "",
    ],
)
def test_what_is_refused(url: str) -> None:
    """Other protocols, options, spaces and what a shell would read are refused."""
    with pytest.raises(HiveError) as refused:
        parse_source(url)
    assert refused.value.code == "bad_source"


def test_passwords_are_not_repeated() -> None:
    """A URL with a password is refused without naming it."""
    with pytest.raises(HiveError) as refused:
        parse_source("https://you:hunter2@github.com/a")
    assert "hunter2" not in refused.value.message + refused.value.hint
