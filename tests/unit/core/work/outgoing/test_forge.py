"""Addresses of pull requests."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.work.outgoing.forge import candidates, known_forge, link, number_of
from hive_core.work.repositories.push_rules import RepositoryAddress
from hive_core.work.repositories.upstream.source import parse_source


def test_only_the_registered_server_is_asked() -> None:
    """The interface is that of the URL's host; only GitHub's own is elsewhere, under its known name."""
    github = known_forge("github.com")
    assert github is not None
    address = RepositoryAddress.of(parse_source("https://github.com/acme/web.git"))
    assert github.pulls(address) == "https://api.github.com/repos/acme/web/pulls"
    for server in ("github.com:8443", "github.com.example", "code.example:444"):
        assert known_forge(server) is None
        assert all(url.startswith(f"https://{server}/api/") for _, url, _ in candidates(server))


def test_paths_are_quoted() -> None:
    """Names with characters that mean something in a URL stay names."""
    address = RepositoryAddress("code.example", "a?b", "c#d%2F")
    forge = candidates("code.example")[0][0]
    assert forge.search(address, "h/x?y", "b#z") == (
        "https://code.example/api/v1/repos/a%3Fb/c%23d%252F/pulls/b%23z/h%2Fx%3Fy"
    )
    assert link(address, "forgejo", 3) == "https://code.example/a%3Fb/c%23d%252F/pulls/3"


def test_a_link_is_of_its_own_repository() -> None:
    """The number of a link is known only for the repository that it names, in the very form in which it was made."""
    address = RepositoryAddress("code.example", "acme", "web")
    for kind in ("github", "forgejo"):
        assert number_of(address, link(address, kind, 12)) == 12
    for other in (
        link(RepositoryAddress("code.example", "acme", "api"), "github", 12),
        "https://code.example/acme/web/pull/012",
        "https://code.example/acme/web/pull/",
        "https://code.example/acme/web/issues/12",
        "https://code.example/acme/web.git main",
        "",
    ):
        assert number_of(address, other) == 0


@pytest.mark.parametrize(
    "url", ["ssh://git@github.com/acme/web", "https://code.example/web", "https://code.example/a/b/c", "git@x:a/b"]
)
def test_other_addresses_have_no_pull_requests(url: str) -> None:
    """A URL that is not https, or not of an owner's repository, is refused with what to do."""
    with pytest.raises(HiveError) as refused:
        RepositoryAddress.of(parse_source(url))
    assert refused.value.code == "no_pull_requests"
    assert "--push branch" in refused.value.hint
