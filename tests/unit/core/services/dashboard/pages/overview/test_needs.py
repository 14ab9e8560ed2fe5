"""Matters that wait for a person."""

from __future__ import annotations

from typing import Any

from hive_core.protocol.base import PAUSED_BY_OPERATOR
from hive_core.services.dashboard.pages.overview.needs import Need, find_decisions, find_stopped
from hive_core.services.dashboard.rendering import render
from tests.unit.core.services.dashboard.pages.overview.daemon_answers import HOSTILE, agent, ago

QUESTION: dict[str, Any] = {
    "id": 3,
    "agent": "ada",
    "text": HOSTILE,
    "options": [HOSTILE],
    "free_text": True,
    "asked_at": ago(hours=1),
}


def _proposal(waits_for: str | None, **changes: Any) -> dict[str, Any]:
    at = ago(hours=1)
    return {
        "agent": "ada",
        "number": 4,
        "kind": "config",
        "by": "ada",
        "note": HOSTILE,
        "waits_for": waits_for,
        "created_at": at,
        **changes,
    }


def _of_agents(**changes: Any) -> list[tuple[str, str]]:
    return [(need.kind, need.identity) for need in find_stopped([agent("ada", **changes)])]


def test_only_what_waits_for_a_person_is_named() -> None:
    """Matters that wait for the manager, are decided, or are under way, are left out."""
    work = {"repo": "web", "number": 2, "by": "bob", "title": "t", "created_at": ago(hours=1)}
    request = {"id": 9, "agent": "bob", "host": "h", "why": "w", "hours": 2.0, "asked_at": ago(hours=1)}
    found = find_decisions(
        [_proposal("operator"), _proposal("manager", number=5), _proposal(None, number=6)],
        [{**work, "waits_for": "operator"}, {**work, "number": 3, "waits_for": "agent:bob"}],
        [{**request, "waits_for": "operator"}, {**request, "id": 10, "waits_for": "manager"}],
        [QUESTION],
    )
    assert [need.identity for need in found] == [
        *("need-question-3", "need-access-9", "need-proposal-ada-4", "need-work-web-2")
    ]
    assert [need.link for need in found[1:]] == [
        "/decisions/access",
        "/decisions/agents/ada/4",
        "/decisions/work/web/2",
    ]


def test_agents_that_stand_still_need_somebody() -> None:
    """Logins, failures, pauses that no person asked for, and budgets need somebody; idle and stopped agents do not."""
    assert _of_agents(state="needs_login") == [("login", "need-login-ada")]
    assert _of_agents(state="budget") == [("budget", "need-budget-ada")]
    assert _of_agents(state="paused", detail="the model refuses") == [("paused", "need-paused-ada")]
    assert _of_agents(state="paused", detail=PAUSED_BY_OPERATOR) == []
    assert _of_agents(lifecycle="failed", state="offline") == [("failure", "need-failure-ada")]
    assert _of_agents(lifecycle="backoff", state="offline") == [("failure", "need-failure-ada")]
    assert _of_agents(lifecycle="stopped", state="offline") == _of_agents() == []


def _html(need: Need, role: str) -> str:
    visitor = {"may_act": role != "viewer"}
    return render("overview/need.html.j2", {"need": need, "since": "1 h", "visitor": visitor, "csrf": "c"})


def test_hostile_words_are_shown_as_words() -> None:
    """A question, its options and a proposal's note are escaped, and their invisible characters shown."""
    for need in find_decisions([_proposal("operator")], [], [], [QUESTION]):
        html = _html(need, "operator")
        assert "<img" not in html
        assert "\u202e" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;\\u202e" in html


def test_viewers_see_what_waits_without_buttons() -> None:
    """A person who only looks gets the words and the links."""
    (need,) = find_decisions([], [], [], [QUESTION])
    assert "<button" in _html(need, "operator")
    assert "<button" not in _html(need, "viewer")
    assert 'href="/agents/ada"' in _html(need, "viewer")
