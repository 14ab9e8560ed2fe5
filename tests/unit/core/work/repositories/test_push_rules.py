"""The rules of where landed work can be published."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import CredentialKind, PushMode
from hive_core.work.repositories.push_rules import check_push
from hive_core.work.repositories.upstream.source import parse_source

HTTPS = "https://git.example/team/web.git"
SSH = "git@git.example:team/web.git"


@pytest.mark.parametrize(
    ("push", "url", "credential"),
    [
        ("none", None, "none"),
        ("branch", SSH, "ssh-key"),
        ("branch", HTTPS, "none"),
        ("pull-request", HTTPS, "token"),
    ],
)
def test_possible_publications_are_taken(push: PushMode, url: str | None, credential: CredentialKind) -> None:
    """A branch is pushed to any URL, and a pull request is opened over https with a token."""
    check_push(push, None if url is None else parse_source(url), credential)


@pytest.mark.parametrize(
    ("push", "url", "credential", "code", "words"),
    [
        ("branch", None, "none", "no_upstream", "nothing can be pushed to a path"),
        ("pull-request", None, "none", "no_upstream", "nothing can be pushed to a path"),
        ("pull-request", SSH, "ssh-key", "no_pull_requests", "is no https URL of the form"),
        ("pull-request", "https://git.example/web", "token", "no_pull_requests", "is no https URL of the form"),
        ("pull-request", HTTPS, "none", "no_pull_requests", "needs a token"),
    ],
)
def test_impossible_publications_are_refused(
    push: PushMode, url: str | None, credential: CredentialKind, code: str, words: str
) -> None:
    """What could never be published is refused when it is registered, with what to do."""
    with pytest.raises(HiveError, match=words) as refused:
        check_push(push, None if url is None else parse_source(url), credential)
    assert refused.value.code == code
    assert refused.value.hint
