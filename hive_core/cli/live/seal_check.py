"""The proof of agents' seals: every agent tries from inside what it must not reach, and this host watches."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hive_core.cli.access import session
from hive_core.cli.access.frame_stream import FrameStream
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.live.listeners import HostListeners
from hive_core.cli.live.seal_plan import LABELS, Judged, allowed_host, judge, plan, resolvers_in
from hive_core.protocol.access.opening import Opening
from hive_core.protocol.access.probe import MOST_ANSWER, PROBE, BadProbe, decode_report, encode_order

_AT_ONCE = 8
_PROBE_SECONDS = 30.0
"""Longest that the agent's side may take, once the session has begun."""
_RESOLVERS = Path("/etc/resolv.conf")
_ELSEWHERE = ("192.0.2.1", 9)
"""An address to which the route is looked up; nothing is sent."""


@dataclass(frozen=True)
class Seal:
    """The seal of one agent. `problem` says why it could not be tried; then there are no checks."""

    agent: str
    network: Literal["sealed", "host"]
    seconds: float
    checks: Sequence[Judged] = ()
    problem: str = ""
    remedy: str = ""
    note: str = ""

    @property
    def severity(self) -> Literal["ok", "warning", "error"]:
        """An error if the seal does not hold or could not be tried; a warning if the host's network was not decided on,
        or an allowed host was not reached.
        """
        if self.problem or any(each.held is False for each in self.checks):
            return "error"
        lacks = any(each.check == "allowed-host" and not each.reached for each in self.checks)
        return "warning" if self.note or lacks else "ok"

    def as_json(self) -> dict[str, object]:
        """Return the seal as JSON data."""
        return {
            "agent": self.agent,
            "network": self.network,
            "severity": self.severity,
            "seconds": round(self.seconds, 3),
            "problem": self.problem,
            "note": self.note,
            "checks": [each.as_json() for each in self.checks],
        }

    def describe(self) -> str:
        """Return what was found, in one line."""
        if self.problem:
            return f"{self.agent}: its network could not be tried: {self.problem}"
        reached = _named(each for each in self.checks if each.reached and each.check != "allowed-host")
        if self.network == "host":
            return (
                f"{self.agent} has the host's network{self.note}; nothing keeps it from: {reached or 'what is there'}"
            )
        open_ones = _named(each for each in self.checks if each.held is False)
        held = _named(each for each in self.checks if each.held)
        first = f"NOT sealed: nothing keeps it from {open_ones}" if open_ones else f"sealed, and kept from: {held}"
        return "; ".join([f"{self.agent} is {first}", *_approved(self.checks), *_allowed(self.checks)])


def _named(checks: Any) -> str:
    return ", ".join(dict.fromkeys(LABELS[each.check] for each in checks))


def _approved(checks: Sequence[Judged]) -> list[str]:
    return [f"{LABELS[each.check]} is approved" for each in checks if each.check == "nix-socket" and each.held is None]


def _allowed(checks: Sequence[Judged]) -> list[str]:
    return [
        f"{each.target} is reached, as allowed"
        if each.reached
        else f"{each.target}, which is allowed, is not reached: {each.detail}"
        for each in checks
        if each.check == "allowed-host"
    ]


class SealCheck:
    """One run. `on_seal` gets each seal when it is known; it is called in other threads, one after another."""

    def __init__(self, client: Client, on_seal: Callable[[Seal], None]) -> None:
        self._client = client
        self._on_seal = on_seal
        self._lock = threading.Lock()
        self._listeners = HostListeners()

    def run(self, agents: Sequence[Mapping[str, Any]]) -> list[Seal]:
        """Try the network of each of these agents, given as the daemon describes them.

        Raises Failure `cannot_listen`.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._listeners.open())
            except OSError as error:
                problem = f"this host cannot listen for agents: {error}"
                raise Failure("cannot_listen", problem, hint="see its limits") from None
            threads = stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
            return list(threads.map(self._try, agents))

    def _try(self, agent: Mapping[str, Any]) -> Seal:
        seal = self._tried(agent)
        with self._lock:
            self._on_seal(seal)
        return seal

    def _tried(self, agent: Mapping[str, Any]) -> Seal:
        name, begun = str(agent.get("name")), time.monotonic()
        sealed = agent.get("network") == "sealed" and not agent.get("unsealed")
        network: Literal["sealed", "host"] = "sealed" if sealed else "host"
        note = ", as nothing can seal it here" if agent.get("unsealed") else ""
        note = note or (" from before sealed was the default" if agent.get("network_implied") else "")
        try:
            checks = self._probe(name, sealed=sealed, nix_daemon=bool(agent.get("nix_daemon")))
        except Failure as failure:
            return Seal(name, network, time.monotonic() - begun, problem=failure.message, remedy=failure.hint)
        return Seal(name, network, time.monotonic() - begun, checks, note=note, remedy=_remedy(checks))

    def _probe(self, name: str, *, sealed: bool, nix_daemon: bool) -> list[Judged]:
        """Have the agent try everything, and judge what it says together with what was seen here. Raises Failure."""
        rules = self._client.get(agent_path(name, "network")).get("rules", []) if sealed else []
        listeners = self._listeners
        planned = plan(listeners.addresses, listeners.abstract, _resolvers(), _own_address(), allowed_host(rules))
        token = listeners.new_token()
        order = encode_order(token, [each.to for each in planned])
        said = _run(self._client, name, order)
        try:
            tried = decode_report(said, len(planned))
        except BadProbe as why:
            hint = "what serves sessions in the agent is not the hive's"
            raise Failure("bad_probe", f"it sent {why}", hint=hint) from None
        seen = listeners.seen.get(token, set())
        return [
            judge(each, outcome, seen=seen, answer=listeners.answer, sealed=sealed, nix_daemon=nix_daemon)
            for each, outcome in zip(planned, tried, strict=True)
        ]


def _run(client: Client, agent: str, order: str) -> bytes:
    """Run the probe in an agent and return what it prints. Raises Failure."""
    opening = Opening("run", argv=("hive-ag3nt", PROBE, order), directory="/")
    connection = session.open_session(client, agent, opening)
    # An agent that stalls is not waited for: the end of the connection ends every wait for it.
    timer = threading.Timer(_PROBE_SECONDS, _shut, [connection])
    timer.daemon = True
    timer.start()
    try:
        stream = FrameStream(connection, agent)
        said = stream.read_exactly(MOST_ANSWER)
        if len(said) == MOST_ANSWER:
            raise Failure("bad_probe", "it sends without end")
        if stream.end is None or stream.end.shell_code != 0:
            hint = f'its harness may be older than this check: "hive-c0re rebuild {agent}"'
            raise Failure("no_probe", "the program for it failed in the agent", hint=hint)
        return said
    finally:
        timer.cancel()
        session.close(connection)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _resolvers() -> list[str]:
    try:
        return resolvers_in(_RESOLVERS.read_text(errors="replace"))
    except OSError:
        return []


def _own_address() -> str:
    """Return an address of this host that is none of its loopback; empty if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, suppress(OSError):
        one.connect(_ELSEWHERE)
        return str(one.getsockname()[0])
    return ""


def _remedy(checks: Sequence[Judged]) -> str:
    if any(each.held is False for each in checks):
        return "stop the agent, and find out what leads out of it"
    if any(each.check == "allowed-host" and not each.reached for each in checks):
        return "find out whether that host answers, and whether the proxy runs (hive-c0re egress)"
    return ""
