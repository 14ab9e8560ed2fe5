"""Rows of the table of agents, made of what the daemon tells: words for states, the tree, and filters. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from hive_core.protocol.base import PAUSED_BY_OPERATOR
from hive_core.protocol.names import MANAGER
from hive_core.services.dashboard.pages.overview.graphs import Graph, graph, short_size

_WORDS = {
    "thinking": ("working", "working"),
    "needs_login": ("needs a login", "waiting"),
    "budget": ("budget used up", "waiting"),
    "paused": ("paused", "paused"),
    "failed": ("failing", "failed"),
    "offline": ("not reporting", "failed"),
}
_LIFECYCLES = {"backoff": ("crashed", "crashed"), "failed": ("failed", "failed")}
STATES = ("working", "idle", "paused", "waiting", "starting", "failed", "stopped")
"""The kinds of states that a filter names."""
_KINDS = {"crashed": "failed", "stopping": "stopped"}
_RESTING = "stopped", "failed"


@dataclass(frozen=True)
class AgentRow:
    """An agent as the table shows it. `state` is a word for people, `look` chooses its colour, `kind` the filter's.

    All that is `now`, `status`, `model` and `detail` are the agent's words.
    """

    name: str
    depth: int
    is_manager: bool
    owner: str
    state: str
    look: str
    kind: str
    since: str
    now: str
    is_detail: bool
    status: str
    backend: str
    model: str
    context: int | None
    cost: str
    memory: Graph | None
    processor: Graph | None
    network: str
    network_open: bool
    unread: int
    last_turn: str
    needs_update: bool
    can_start: bool
    is_paused: bool


@dataclass(frozen=True)
class Filter:
    """The agents that are shown: those whose name, words or model contain `text`, of one state, and of one owner."""

    text: str = ""
    state: str = ""
    owner: str = ""
    flat: bool = False

    @classmethod
    def of_query(cls, query: Mapping[str, str]) -> Filter:
        """Return the filter of a query string; fields that mean nothing are left out."""
        state = query.get("state", "")
        return cls(
            query.get("q", "").strip()[:100],
            state if state in STATES else "",
            query.get("owner", "")[:100],
            query.get("view") == "list",
        )

    @classmethod
    def of_arguments(cls, arguments: Mapping[str, str]) -> Filter:
        """Return the filter of a live part, whose arguments are quoted once more."""
        return cls.of_query({name: unquote(value) for name, value in arguments.items()})

    @property
    def arguments(self) -> str:
        """The filter as arguments of a live part, such as `?state=idle`; empty if it lets all through."""
        fields = {"q": self.text, "state": self.state, "owner": self.owner, "view": "list" if self.flat else ""}
        given = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items() if value)
        return f"?{given}" if given else ""

    @property
    def is_set(self) -> bool:
        """True if it may leave agents out."""
        return bool(self.text or self.state or self.owner)

    def lets_through(self, row: AgentRow) -> bool:
        """Return True if the agent is shown."""
        if self.state and row.kind != self.state:
            return False
        if self.owner and row.owner != self.owner:
            return False
        words = f"{row.name}\n{row.status}\n{row.now}\n{row.model}\n{row.backend}\n{row.owner}"
        return self.text.casefold() in words.casefold()


def make_rows(
    agents: Sequence[Mapping[str, Any]], activity: Mapping[str, Any], chosen: Filter, now: datetime
) -> list[AgentRow]:
    """Return the rows of the agents that `chosen` lets through, as a tree by who asked for them.

    `agents` and `activity` are answers of the daemon. An agent whose parent is left out stands where it would.
    """
    doing = {each["agent"]: each for each in activity.get("agents", [])}
    parents = {} if chosen.flat else activity.get("spawned_by", {})
    ordered = order_as_tree([str(agent["name"]) for agent in agents], parents)
    known = {agent["name"]: agent for agent in agents}
    rows = (_row(known[name], depth, doing.get(name, {}), now) for name, depth in ordered)
    return [row for row in rows if chosen.lets_through(row)]


def order_as_tree(names: Sequence[str], parents: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the names with their depth, each behind its parent, in the order of `names` beside each other."""
    present = set(names)
    children: dict[str, list[str]] = {}
    for name in names:
        parent = parents.get(name, "")
        children.setdefault(parent if parent in present and parent != name else "", []).append(name)
    found: list[tuple[str, int]] = []
    waiting = [(name, 0) for name in reversed(children.get("", []))]
    while waiting:
        name, depth = waiting.pop()
        found.append((name, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(name, []))]
    shown = {name for name, _ in found}
    return [*found, *((name, 0) for name in names if name not in shown)]  # A circle has no beginning.


def state_of(agent: Mapping[str, Any]) -> tuple[str, str]:
    """Return an agent's state as a word for people, and the name by which it is coloured."""
    lifecycle, state = str(agent["lifecycle"]), str(agent["state"])
    if lifecycle != "running":
        return _LIFECYCLES.get(lifecycle, (lifecycle, lifecycle))
    return _WORDS.get(state, (state, state))


def age(then: object, now: datetime) -> str:
    """Return the time since a moment of an answer in its largest unit from minutes on; empty without one.

    It changes once in a minute at most, so that rows do not change all the time.
    """
    if not isinstance(then, str) or not then:
        return ""
    minutes = int((now - datetime.fromisoformat(then)).total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60), ("min", 1)):
        if minutes >= size:
            return f"{minutes // size} {unit}"
    return "< 1 min"


def owners_of(agents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the owners of the agents, for the filter."""
    return sorted({str(agent["owner"]) for agent in agents if agent.get("owner")})


def _row(agent: Mapping[str, Any], depth: int, doing: Mapping[str, Any], now: datetime) -> AgentRow:
    state, look = state_of(agent)
    works = look == "working"
    detail = "" if agent["detail"] == PAUSED_BY_OPERATOR else str(agent["detail"] or "")
    at_rest = agent["lifecycle"] in ("backoff", "failed")
    activity = str(doing.get("activity") or "") if works else ""
    said = activity or detail or (str(agent.get("exit_cause") or agent.get("last_crash") or "") if at_rest else "")
    window = doing.get("window") or 0
    cost = agent.get("cost_today")
    memory, cpu = doing.get("memory_max"), doing.get("cpu_quota")
    return AgentRow(
        name=agent["name"],
        depth=depth,
        is_manager=agent["name"] == MANAGER,
        owner=str(agent.get("owner") or ""),
        state=state,
        look=look,
        kind=_KINDS.get(look, look),
        since=age(agent.get("state_since"), now),
        now=said,
        is_detail=not activity,
        status=str(agent.get("status") or ""),
        backend=agent["backend"],
        model=str(doing.get("model") or agent.get("model") or ""),
        context=min(100, round(doing.get("context", 0) * 100 / window)) if window > 0 else None,
        cost="" if not cost else f"${cost:,.2f}",
        memory=graph(doing.get("memory") or (), memory, short_size, None if memory is None else short_size(memory)),
        processor=graph(doing.get("processor") or (), cpu, "{:.0f}%".format, None if cpu is None else f"{cpu}%"),
        network=_network(agent, now),
        network_open=bool(agent.get("network_open")),
        unread=int(agent.get("unacked") or 0),
        last_turn=age(doing.get("last_turn_at"), now),
        needs_update=bool(agent.get("needs_update")),
        can_start=agent["lifecycle"] in ("stopped", "failed", "backoff"),
        is_paused=state == "paused",
    )


def _network(agent: Mapping[str, Any], now: datetime) -> str:
    if agent.get("unsealed"):
        return "not sealed"
    if agent.get("network") == "host":
        return "host's"
    if agent.get("network_open"):
        until = agent.get("network_open_until")
        return f"open for {_ahead(until, now)}" if until else "open"
    count = int(agent.get("network_rules") or 0)
    return f"sealed, {count} rule{'s' * (count != 1)}" if count else "sealed"


def _ahead(then: str, now: datetime) -> str:
    minutes = max(1, int((datetime.fromisoformat(then) - now).total_seconds() // 60))
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"
