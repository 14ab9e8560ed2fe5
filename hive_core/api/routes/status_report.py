"""The status of the daemon and its hive, for `hive-c0re status` and as metrics."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from hive_core import __version__
from hive_core.agents import AgentRegistry
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.database.database import Database
from hive_core.infra.database.space import DatabaseSpace
from hive_core.infra.git.maintenance import packed_bytes
from hive_core.infra.telemetry.metrics import Metrics
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, question_store
from hive_core.outside.opening import Outside
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import HiveStatus, Lifecycle
from hive_core.protocol.names import OPERATOR
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings


class StatusReport:
    """Collects the status. Create it when the daemon starts, whose start time it reports."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        space: DatabaseSpace,
        directory: Directory,
        broker: Broker,
        agents: AgentRegistry,
        runtime: Runtime,
        metrics: Metrics,
        settings: Settings,
        missing_environment: Sequence[str],
        outside: Outside,
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._layout = layout
        self._database = database
        self._space = space
        self._broker = broker
        self._agents = agents
        self._runtime = runtime
        self._metrics = metrics
        self._missing_environment = list(missing_environment)
        self._started_at = datetime.now(UTC)
        metrics.watch(
            "hive_unacknowledged",
            "Messages that wait or are being handled.",
            "recipient",
            lambda: {name: broker.unacknowledged(name) for name in [OPERATOR, *directory.names()]},
        )
        sizes = "Bytes used in the database file, and its limit."
        metrics.watch("hive_database_bytes", sizes, "size", lambda: {"used": space.used, "limit": space.limit})
        metrics.watch("hive_agents", "Agents by lifecycle.", "lifecycle", self._lifecycles)

    async def status(self, sees: Sight = EVERYTHING) -> HiveStatus:
        """Return the present status, as far as the caller may know it.

        Who does not see all agents gets no figures of the whole hive, which tell of the others: they are 0.
        """
        stored, asked = await self._database.read(
            lambda db: (
                db.execute("SELECT count(*) FROM messages").fetchone()[0] if sees.whole else 0,
                question_store.count_open_questions(db, sees),
            )
        )
        network, pages = self._outside.network, self._settings.dashboard
        names = list(filter(sees, self._agents.names))
        waiting = self._broker.total_unacknowledged if sees.whole else sum(map(self._broker.unacknowledged, names))
        proposals = await READS.run(self._proposal_bytes)
        return HiveStatus(
            network_requests=network.count_waiting(sees),
            dashboard=pages.origin if pages.enabled else "",
            dashboard_problem="" if self._outside.dashboard is None else self._outside.dashboard.problem,
            open_networks=list(filter(sees, network.open_agents())),
            gateways_away=self._outside.away,
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            state_dir=str(self._layout.state_dir),
            runtime=self._runtime.name,
            confinement=self._runtime.confinement,
            sealing=self._runtime.sealing,
            agents=self._lifecycles(sees),
            messages_stored=stored,
            messages_unacked=waiting,
            operator_unread=self._broker.unacknowledged(OPERATOR) if sees.whole else 0,
            open_questions=asked,
            database_bytes=self._space.used if sees.whole else 0,
            database_limit=self._space.limit,
            proposal_bytes={name: size for name, size in proposals.items() if sees(name)},
            proposal_limit=self._settings.proposal_space,
            build_problem=self._runtime.build_problem,
            missing_environment=self._missing_environment,
        )

    def _proposal_bytes(self) -> dict[str, int]:
        applied = self._layout.applied
        return {path.stem: packed_bytes(path) for path in sorted(applied.glob("*.git"))}

    def exposition(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        # Imported here: the library takes a twentieth of the daemon's start, and only a scrape needs it.
        from hive_core.infra.telemetry.prometheus import exposition  # noqa: PLC0415

        return exposition(self._metrics)

    def _lifecycles(self, sees: Sight = EVERYTHING) -> dict[Lifecycle, int]:
        return dict(Counter(status.lifecycle for status in self._agents.statuses() if sees(status.name)))
