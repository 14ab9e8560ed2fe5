"""The daemon's end of the relay as a program: one agent's listener, and a ledger on a real disk.

`python -m tests.benchmarks.network.relay_daemon DIRECTORY VENDOR` prints the port of the agent's listener, and serves a
relay at `relay.sock` in the directory until its standard input ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from hive_core.infra.database.database import Database
from hive_core.outside.gateway_link import listen_for_gateway
from hive_core.outside.handover_door import HandedListener
from hive_core.outside.models.ledger import Ledger
from hive_core.outside.models.relay_link import RELAY_GROUP, RelayLink
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.providers import ProviderSettings


async def main(directory: Path, address: str) -> None:
    """Serve until the standard input ends."""
    database = await Database.open(directory / "hive.sqlite")
    writing = asyncio.create_task(database.run())
    providers = {"vendor": ProviderSettings(api="anthropic", base_url=address, keys=["key"], calls_at_once=1_000)}
    limits = SpendingLimits(money_per_day=1_000_000, calls_total=1_000_000)
    ledger = Ledger(database, providers, lambda _: limits, limits)
    config = AgentConfig(backend="claude", provider="vendor")
    link = RelayLink(listen_for_gateway(directory / "relay.sock", RELAY_GROUP), ledger, providers, lambda _: config)
    serving = asyncio.create_task(link.run())
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    link.hold("ada")
    link.receive("ada", HandedListener("relay", listener))
    await asyncio.to_thread(sys.stdin.read)
    serving.cancel()
    await asyncio.wait([serving])
    database.finish()
    await writing
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
