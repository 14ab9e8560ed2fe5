"""The list of decisions."""

from __future__ import annotations

from typing import Any

from hive_core.services.dashboard.pages.decisions.inbox import sort_items

_AT = "2026-01-01T00:00:0{}Z"


def _proposal(number: int, state: str, waits_for: str | None) -> dict[str, Any]:
    return {
        "agent": "ada", "number": number, "kind": "config", "state": state, "by": "ada", "note": "why",
        "waits_for": waits_for, "created_at": _AT.format(number), "changed_at": _AT.format(number), "outcome": "",
    }  # fmt: skip


def _request(number: int, state: str) -> dict[str, Any]:
    return {
        "id": number, "agent": "ada", "host": "one.example", "why": "pip", "state": state, "note": "",
        "waits_for": "operator" if state == "open" else None, "asked_at": _AT.format(number), "decided_at": None,
    }  # fmt: skip


def test_what_waits_for_whom() -> None:
    """Matters for people come first, the oldest at the top; those that others decide on stand apart from ended ones."""
    proposals = [
        _proposal(4, "built", "operator"),
        _proposal(3, "built", "manager"),
        _proposal(2, "building", "operator"),
        _proposal(1, "deployed", None),
    ]
    work = {"repo": "web", "branch": "main", "title": "Mend it", **_proposal(5, "approved", None)}
    inbox = sort_items(proposals, [work], [_request(1, "open"), _request(6, "approved"), _request(7, "expired")])
    assert [item.name for item in inbox.waiting] == ["one.example", "ada/4"]
    assert [item.name for item in inbox.others] == ["ada/2", "ada/3", "web/5"]
    assert [(item.name, item.state) for item in inbox.decided] == [
        ("one.example", "expired"),
        ("one.example", "approved"),
        ("ada/1", "deployed"),
    ]
