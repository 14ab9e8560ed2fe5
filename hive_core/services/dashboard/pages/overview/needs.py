"""Matters that wait for a person: decisions, questions, logins, failures and budgets. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from hive_core.protocol.base import PAUSED_BY_OPERATOR

Kind = Literal["decision", "access", "question", "login", "failure", "paused", "budget"]
_SUBJECTS = {
    "config": "a change of the configuration",
    "spawn": "a new agent",
    "destroy": "the end of the agent",
    "rollback": "an earlier deployment",
    "rebuild": "a rebuild",
}


@dataclass(frozen=True)
class Need:
    """Something that waits for a person. `title` is in the hive's words, `words` are those of the agent.

    `number` is that of the request or question, `options` are a question's answers, and `hours` the time that a request
    for a host asks for.
    """

    identity: str
    kind: Kind
    agent: str
    title: str
    words: str
    link: str
    link_text: str
    at: str = ""
    number: int = 0
    options: tuple[str, ...] = ()
    free_text: bool = True
    hours: float = 0.0


def find_stopped(agents: Sequence[Mapping[str, Any]]) -> list[Need]:
    """Return the agents that stand still until a person does something. `agents` is an answer of the daemon."""
    return [need for agent in agents for need in _of_agent(agent)]


def find_decisions(
    proposals: Sequence[Mapping[str, Any]],
    work: Sequence[Mapping[str, Any]],
    requests: Sequence[Mapping[str, Any]],
    questions: Sequence[Mapping[str, Any]],
) -> list[Need]:
    """Return what agents wait for a person to decide or to answer, questions first.

    All are answers of the daemon. What waits for the manager or an agent does not wait for a person.
    """
    return [
        *(_question(each) for each in questions),
        *(_request(each) for each in requests if each.get("waits_for") == "operator"),
        *(_proposal(each) for each in proposals if each.get("waits_for") == "operator"),
        *(_work(each) for each in work if each.get("waits_for") == "operator"),
    ]


def _question(each: Mapping[str, Any]) -> Need:
    return Need(
        f"need-question-{each['id']}",
        "question",
        each["agent"],
        f"{each['agent']} asks",
        each["text"],
        _page(each["agent"]),
        "Open the agent",
        at=each["asked_at"],
        number=each["id"],
        options=tuple(each["options"]),
        free_text=bool(each["free_text"]),
    )


def _of_agent(agent: Mapping[str, Any]) -> Iterator[Need]:
    name, lifecycle, state = agent["name"], agent["lifecycle"], agent["state"]
    page, detail = _page(name), str(agent.get("detail") or "")

    def need(kind: Kind, title: str, words: str, link_text: str = "Open the agent") -> Need:
        return Need(f"need-{kind}-{name}", kind, name, title, words, page, link_text, at=agent.get("state_since") or "")

    if lifecycle in ("failed", "backoff"):
        what = "does not start" if lifecycle == "failed" else "has crashed and is started again after a pause"
        cause = str(agent.get("last_crash") or agent.get("exit_cause") or "")
        yield need("failure", f"{name} {what}", "\n".join(filter(None, [cause, str(agent.get("last_line") or "")])))
    elif lifecycle != "running":
        return
    elif state == "needs_login":
        yield need("login", f"{name} needs a login", detail, "Log in")
    elif state == "budget":
        yield need("budget", f"{name} has used up its budget", detail)
    elif state == "paused" and detail != PAUSED_BY_OPERATOR:
        yield need("paused", f"{name} waits for a person", detail)


def _request(each: Mapping[str, Any]) -> Need:
    return Need(
        f"need-access-{each['id']}",
        "access",
        each["agent"],
        f"{each['agent']} asks to reach a host for {each['hours']:g} hours",
        f"{each['host']}\n{each['why']}",
        "/decisions/access",
        "See all requests",
        at=each["asked_at"],
        number=each["id"],
        hours=each["hours"],
    )


def _proposal(each: Mapping[str, Any]) -> Need:
    agent, number = each["agent"], each["number"]
    return Need(
        f"need-proposal-{agent}-{number}",
        "decision",
        agent,
        f"{each['by']} proposes {_SUBJECTS.get(each['kind'], each['kind'])}: {agent}/{number}",
        each["note"],
        f"/decisions/agents/{quote(agent, safe='')}/{number}",
        "Review",
        at=each["created_at"],
    )


def _work(each: Mapping[str, Any]) -> Need:
    repo, number = each["repo"], each["number"]
    return Need(
        f"need-work-{repo}-{number}",
        "decision",
        each["by"],
        f"{each['by']} has work for {repo}: {repo}/{number}",
        each["title"],
        f"/decisions/work/{quote(repo, safe='')}/{number}",
        "Review",
        at=each["created_at"],
    )


def _page(name: str) -> str:
    return f"/agents/{quote(name, safe='')}"
