"""Refusals: what the agent reads, and what the daemon hears of them, many of one kind as one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from hive_core.protocol.network.packets import RefusedPacket
from hive_core.services.egress.checks.decision import EgressRefusal
from hive_core.text import one_line

_STATUS = {"bad_request": 400, "connections": 503, "bytes_per_day": 403}
PHRASES = {400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 417: "Expectation Failed"} | {
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_MAX_KINDS = 64
"""Different refusals of one agent that are kept apart until they are reported; further ones are counted together."""
_MAX_HOST = 260
_MAX_DETAIL = 300
_PER_REPORT = 20
"""Packets about refusals that are sent at a time."""


class Explanation(NamedTuple):
    """An answer of the proxy's own: its status, the phrase beside it, and its text."""

    status: int
    phrase: str
    text: str

    def as_response(self) -> bytes:
        """Return the bytes of the response, after which the connection ends."""
        body = f"hyperhive: {self.text}\n".encode()
        return (
            f"HTTP/1.1 {self.status} {self.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nProxy-Connection: close\r\n\r\n"
        ).encode() + body


def explain(refusal: EgressRefusal, status: int | None = None) -> Explanation:
    """Return what an agent reads of a refusal. The phrase names the cause: many programs show nothing else."""
    status = status or _STATUS.get(refusal.reason, 403)
    host = one_line(refusal.host, 100)
    detail = one_line(refusal.detail, 200)
    where = f"{host} port {refusal.port}" if refusal.port not in (0, 80, 443) else host
    match refusal.reason:
        case "no_rule":
            text = (
                f"{where} is not among the hosts that this agent may reach. The missing rule is {refusal.missing!r}. "
                "To ask for it, use the tool request_network: the host, why you need it, and for how many hours."
            )
            return Explanation(status, f"No rule for {refusal.missing} - see request_network", text)
        case "denied":
            text = f"{where} was denied to this agent by the rule {detail!r}. Do without it, or ask who denied it."
        case "not_a_name":
            text = f"{host} {detail}. Use the name of a host; addresses cannot be allowed."
        case "port":
            text = f"Port {refusal.port} cannot be reached from an agent: {detail}."
        case "refused_address":
            text = f"{host} is refused: {detail}. Only public addresses are reached, whatever the rules say."
        case "not_tls" | "server_name" | "encrypted_hello":
            text = f"The connection to {where} was ended: {detail}."
        case "connections":
            text = "This agent has too many connections open. Close some, and try again."
        case "bytes_per_day":
            text = "This agent has used up the bytes that it may send and receive today (UTC). Ask your operator."
        case "service_down":
            text = f"The {host} does not answer: {detail}."
        case "service_withdrawn":
            text = f"The {host} is not offered any more."
        case _:
            text = f"The request was not understood: {detail}."
    return Explanation(status, PHRASES.get(status, "Refused"), text)


class RefusalCounter:
    """Refusals that the daemon has not heard of yet. What an agent can fill is bounded."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, EgressRefusal], int] = OrderedDict()
        self._kinds: dict[str, int] = {}
        self.total: dict[tuple[str, str], int] = {}
        """Refusals since the start, by agent and reason."""

    def add(self, agent: str, refusal: EgressRefusal) -> None:
        """Count a refusal. Its words of the agent are cut: what is kept and told is bounded."""
        refusal = replace(refusal, host=refusal.host[:_MAX_HOST], detail=refusal.detail[:_MAX_DETAIL])
        self.total[agent, refusal.reason] = self.total.get((agent, refusal.reason), 0) + 1
        key = (agent, refusal)
        if key not in self._counts:
            if self._kinds.get(agent, 0) >= _MAX_KINDS:
                key = (agent, EgressRefusal(refusal.reason))
            if key not in self._counts:
                self._kinds[agent] = self._kinds.get(agent, 0) + 1
        self._counts[key] = self._counts.get(key, 0) + 1

    def take(self) -> list[RefusedPacket]:
        """Return the oldest refusals as packets, at most some, and forget them."""
        return [self._take(key) for key in list(islice(self._counts, _PER_REPORT))]

    def take_all_of(self, agent: str) -> list[RefusedPacket]:
        """Return all refusals of one agent as packets, and forget them."""
        return [self._take(key) for key in list(self._counts) if key[0] == agent]

    def _take(self, key: tuple[str, EgressRefusal]) -> RefusedPacket:
        agent, refusal = key
        count = self._counts.pop(key)
        self._kinds[agent] -= 1
        if not self._kinds[agent]:
            del self._kinds[agent]
        return RefusedPacket(
            agent=agent,
            host=refusal.host,
            port=refusal.port,
            reason=refusal.reason,
            missing=refusal.missing,
            detail=refusal.detail,
            count=count,
        )

    def forget(self, agent: str) -> None:
        """Forget the totals of an agent that is gone."""
        for key in [key for key in self.total if key[0] == agent]:
            del self.total[key]
