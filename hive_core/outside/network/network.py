"""The network of agents: what each may reach, who has changed that and until when, and what was refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import structlog

from hive_core.agents.registry import NetworkState
from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.infra.concurrency.wakeups import Wakeups
from hive_core.infra.database.database import TEMPORARY_ERRORS, Database, steady_milliseconds
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker
from hive_core.outside.network import store, texts
from hive_core.outside.network.known_agents import KnownAgents
from hive_core.outside.network.log import NetworkLog
from hive_core.outside.network.reports import store as report_store
from hive_core.outside.network.reports.refusals import RefusalRecords
from hive_core.outside.network.reports.traffic import TrafficCounts
from hive_core.outside.network.requests import HostDecider, HostRequests, not_needed
from hive_core.outside.network.rule_book import RuleBook, RuleChange
from hive_core.outside.network.rule_changes import RuleChanges
from hive_core.outside.network.rules import is_covered, is_denied, lasting_hosts, make_policy, read_entry
from hive_core.outside.network.store import RequestRow
from hive_core.outside.network.views import NetworkViews
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import (
    AgentConfig,
    AgentNetwork,
    AgentReach,
    ApproveHost,
    AskForHost,
    DenyHost,
    LogsAnswer,
    LogsQuery,
    MakeRule,
    NetworkOverview,
    NetworkRequest,
    RemoveRule,
)
from hive_core.protocol.names import EVERYONE, MANAGER
from hive_core.protocol.network.packets import FromEgress, RefusedPacket, TrafficPacket
from hive_core.protocol.network.policy import EgressPolicy, since_boot
from hive_core.settings import Settings

log = structlog.get_logger(__name__)

_HOUR = 3_600_000
_LONGEST_PAUSE = 60.0
"""Seconds after which a clock that was changed is noticed."""
_RETRY_SECONDS = 5.0
_REPORT_SECONDS = 1.0
"""Time for which reports of the proxy are collected before they are stored."""


class Network:
    """The daemon's side of egress. It knows nothing of the proxy, which hears of changes by `on_changed`."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        broker: Broker,
        agents: KnownAgents,
        events: EventHub,
        clock: Callable[[], int] = steady_milliseconds,
    ) -> None:
        """`clock` gives the time in milliseconds, and never goes back."""
        self.on_changed: Callable[[str], None] = _nobody
        """Called with each agent whose policy may have changed, and with `*` after a change for all."""
        self.on_close: Callable[[str], None] = _nobody
        """Called with an agent whose open connections are to end, if its policy does not allow them; after
        `on_changed`."""
        self._settings = settings.egress
        self._offered = settings.services
        self._decider = settings.approval.network
        self._database = database
        self._broker = broker
        self._agents = agents
        self._events = events
        self._clock = clock
        self._wakeups = Wakeups()
        self._book = RuleBook(database, clock)
        self._traffic = TrafficCounts()
        self._refusals = RefusalRecords(database, broker, self.decider_of, clock)
        self._reported = asyncio.Event()
        self._rules_changed = asyncio.Event()
        self.requests = HostRequests(database, broker, self._book, self.decider_of, clock)
        self._changes = RuleChanges(settings.egress, database, self._book, clock)
        self._views = NetworkViews(settings, database, self._book, self._traffic, self.requests, clock)
        self._log = NetworkLog(database, self._wakeups)

    async def open(self) -> None:
        """Read rules and requests; those whose end has passed while no daemon ran end now."""
        now = self._clock()
        await self._database.read(lambda db: self._traffic.load(db, now))
        await self._book.open()
        await self.requests.open()
        await self.end_due()

    async def run(self) -> None:
        """End rules when their time is up, and store what the proxy reports, until cancelled."""
        await asyncio.gather(self._end_rules(), self._store_reports())

    def close(self) -> None:
        """End every wait for the log at once."""
        self._wakeups.close()

    # --- for the proxy ----------------------------------------------------------------------------------------

    def policy(self, name: str) -> EgressPolicy:
        """Return what an agent may reach now. Raises `unknown_agent`."""
        config = self._agents.record(name).config
        return make_policy(self._settings, config, self._book.of(name), self._since_boot, self._offered)

    def reach(self, name: str) -> AgentReach:
        """Return what an agent is told of its network when it starts. Raises `unknown_agent`."""
        record = self._agents.record(name)
        hosts = lasting_hosts(self._settings, record.config, self._book.of(name)) if record.sealed else []
        return AgentReach(sealed=record.sealed, hosts=hosts)

    def policy_for_check(self, hosts: Sequence[str]) -> EgressPolicy:
        """Return what a check may reach whose repository has rules for these hosts: what is denied to all, is to it."""
        denied = [rule for rule in self._book.made_for(EVERYONE) if rule.effect == "deny"]
        settings = self._settings.model_copy(update={"allow": list(hosts)})
        return make_policy(settings, AgentConfig(), denied, self._since_boot)

    def bytes_today(self, name: str) -> int:
        """Return the bytes that an agent has sent and received through the proxy on this day (UTC)."""
        traffic = self._traffic.of(name, self._clock())
        return traffic.sent_today + traffic.received_today

    async def heard(self, packet: FromEgress) -> None:
        """Take a report of the proxy; those of agents that are gone are ignored."""
        if not isinstance(packet, RefusedPacket | TrafficPacket) or self._agents.find(packet.agent) is None:
            return
        if isinstance(packet, RefusedPacket):
            self._refusals.add(packet)
        else:
            self._traffic.add(packet, self._clock())
        self._reported.set()

    def proxy_ended(self) -> None:
        """Forget the connections of all agents: they have ended with the proxy."""
        self._traffic.disconnected()

    def configuration_changed(self, name: str) -> None:
        """Tell the proxy of an agent that was created, or whose configuration was deployed; forget one that is gone."""
        if self._agents.find(name) is not None:
            self.on_changed(name)
            return
        self._book.forget(name)
        self._refusals.forget(name)
        self._traffic.forget(name)
        self.requests.forget(name)

    # --- for operators ----------------------------------------------------------------------------------------

    async def make_rule(self, agent: str, request: MakeRule, by: Principal) -> None:
        """Make a rule for an agent, or for all (`*`). Raises `bad_name`, and what `RuleChanges.make` raises."""
        self._check_known(agent)
        self._tell(await self._changes.make(agent, request, by))

    async def remove_rule(self, agent: str, request: RemoveRule, by: Principal) -> None:
        """Remove a rule. Raises `unknown_agent`, `bad_name`, and what `RuleChanges.remove` raises."""
        self._check_known(agent)
        self._tell(await self._changes.remove(agent, request, by))

    async def close_all(self, agent: str, by: Principal) -> None:
        """End the rules that open everything for an agent, or for all (`*`), and connections that no rule allows.

        Raises `unknown_agent`, `bad_name`.
        """
        self._check_known(agent)
        self._tell(await self._changes.close(agent, by))
        for name in self._names(agent):
            self.on_close(name)

    async def overview(self, sees: Sight = EVERYTHING) -> NetworkOverview:
        """Return all agents in short, with the rules for all of them and the open requests."""
        return await self._views.overview(self._agents.all(), sees)

    async def agent(self, name: str) -> AgentNetwork:
        """Return the network of one agent. Raises `unknown_agent`, `bad_name`."""
        return await self._views.agent(self._agents.record(name))

    def open_agents(self) -> list[str]:
        """Return the sealed agents that reach everything that is public."""
        return [
            record.name
            for record in self._agents.all()
            if record.sealed and any(rule.effect == "open" for rule in self._book.of(record.name))
        ]

    def state_of(self, record: AgentRecord) -> NetworkState:
        """Return the reach of an agent in short, without reading anything from the disk."""
        return self._views.state(record)

    def count_waiting(self, sees: Sight = EVERYTHING) -> int:
        """Return how many requests wait for the operator."""
        return self.requests.count_waiting("operator", sees)

    async def read_log(self, name: str, query: LogsQuery) -> LogsAnswer:
        """Return lines of the log of an agent's network. Raises `unknown_agent`, `bad_name`."""
        self._agents.record(name)
        return await self._log.read(name, query)

    async def approve(self, number: int, request: ApproveHost, by: Principal) -> NetworkRequest:
        """Approve a request, which makes a rule; raises what `HostRequests.approve` raises, and `host_denied`."""
        approved, change = await self.requests.approve(number, request, by, self._check_request)
        self._tell(change)
        return self.requests.shown(approved)

    def _check_request(self, row: RequestRow) -> None:
        """Raise `bad_rule` for a host that an update has made none since it was asked for, and `host_denied`.

        What an operator denies is not allowed by a decision, which may be the manager's, and would end the denial.
        """
        self._changes.check_effective(row.agent, read_entry(row.entry), replaces=False)

    async def deny(self, number: int, request: DenyHost, by: Principal) -> NetworkRequest:
        """Deny a request; raises what `HostRequests.deny` raises."""
        denied = await self.requests.deny(number, request, by)
        self._wakeups.wake(denied.agent)
        self._publish(denied.agent, "denied", denied.entry, denied.decided_by or "")
        return self.requests.shown(denied)

    # --- of agents --------------------------------------------------------------------------------------------

    async def ask(self, request: AskForHost, by: Principal) -> NetworkRequest:
        """Ask to reach a host, in the name of an agent.

        Raises `bad_rule`, `host_allowed`, `host_denied`, `too_many_requests`.
        """
        record, entry = self._agents.record(by.name), read_entry(request.host)
        if not record.sealed:
            raise not_needed(record.name, entry, sealed=False)
        if is_denied(entry, self._settings.deny):
            raise texts.denied_by_settings(entry)
        policy = self.policy(record.name)
        if is_covered(entry, policy.allow) and not is_denied(entry, policy.deny):
            raise not_needed(record.name, entry, sealed=True)
        made = await self.requests.ask(entry, request, by)
        if self._agents.find(record.name) is None:
            self.requests.forget(record.name)  # It was destroyed while this was stored.
        self._wakeups.wake(record.name)
        self._publish(record.name, "asked", entry, record.name)
        return made

    def decider_of(self, agent: str) -> HostDecider:
        """Return who decides on the requests of an agent: nobody decides on their own, or in place of a missing
        manager.
        """
        is_managers = self._decider == "manager" and agent != MANAGER and self._agents.find(MANAGER) is not None
        return "manager" if is_managers else "operator"

    # ----------------------------------------------------------------------------------------------------------

    async def store_reports(self) -> None:
        """Store what the proxy has reported."""
        traffic = self._traffic.take_new()
        if traffic:
            try:
                await self._database.write(lambda db: report_store.add_traffic(db, traffic))
            except HiveError as error:
                if error.code not in TEMPORARY_ERRORS:
                    raise
                log.warning("traffic of the network not stored", code=error.code)
        for agent, refused in (await self._refusals.store()).items():
            self._wakeups.wake(agent)
            self._publish(agent, "refused", refused.host, "", refused.times)

    async def vacuum(self, retention_days: float, batch: int = 500) -> int:
        """Remove rules that ended, and requests that were decided, longer ago; returns how many."""
        before = self._clock() - int(retention_days * 24 * _HOUR)
        removed = 0
        while True:
            count = await self._database.write(lambda db: store.vacuum(db, before, batch))
            removed += count
            if count < batch:
                return removed

    async def end_due(self) -> float:
        """End the rules and requests whose time is up; returns the seconds until the next one may end."""
        try:
            change = await self._book.end_due()
        except HiveError as error:
            if error.code not in TEMPORARY_ERRORS:
                raise
            log.warning("ends of rules not stored", code=error.code)
            for name in self._names(EVERYONE):  # They are not in force all the same.
                self.on_changed(name)
            return _RETRY_SECONDS
        self._tell(change)
        for row in await self.requests.expire():
            self._wakeups.wake(row.agent)
            self._publish(row.agent, "expired", row.entry, "")
        now, request_end = self._clock(), self.requests.next_end()
        if request_end is not None and request_end <= now:
            return _RETRY_SECONDS  # Its end could not be stored.
        ends = [end for end in (self._book.next_end(), request_end) if end is not None]
        return min([_LONGEST_PAUSE, *(max(0.0, (end - now) / 1_000) for end in ends)])

    async def _end_rules(self) -> None:
        while True:
            self._rules_changed.clear()
            pause = await self.end_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._rules_changed.wait()

    async def _store_reports(self) -> None:
        while True:
            await self._reported.wait()
            await asyncio.sleep(_REPORT_SECONDS)
            self._reported.clear()
            await self.store_reports()

    def _check_known(self, agent: str) -> None:
        if agent != EVERYONE:
            self._agents.record(agent)

    def _tell(self, change: RuleChange) -> None:
        """Tell the proxy and readers of logs of a change."""
        for agent in change.agents:
            if agent == EVERYONE:
                self.on_changed(EVERYONE)
            for name in self._names(agent):
                self.on_changed(name)
                self._wakeups.wake(name)
        made = change.made
        if made is not None and made.agent != EVERYONE and self._agents.find(made.agent) is None:
            self._book.forget(made.agent)  # The agent was destroyed while its rule was stored, and took it along.
        for ended in change.ended:
            if made is None or made.entry != ended.entry:
                self._publish(ended.agent, "ended", ended.entry, "")
        if made is not None:
            self._publish(made.agent, made.effect, made.entry, made.made_by)
            self._rules_changed.set()

    def _publish(self, agent: str, what: str, host: str, by: str, count: int = 0) -> None:
        data = {"agent": agent, "what": what, "host": host, "by": by, "count": count}
        self._events.publish("network.changed", data)

    def _names(self, agent: str) -> Iterable[str]:
        return [record.name for record in self._agents.all()] if agent == EVERYONE else [agent]

    def _since_boot(self, at: int) -> int:
        return max(0, at - self._clock() + since_boot())


def _nobody(_: str) -> None:
    """Stands for whoever is to hear of changes."""
