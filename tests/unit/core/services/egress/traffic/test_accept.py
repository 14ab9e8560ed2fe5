"""Acceptance on listeners that somebody else holds, too: nobody makes the proxy wait twice in a minute."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from hive_core.protocol.network.policy import EgressPolicy
from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.traffic.accept import AcceptBlocked, AcceptWatcher, AgentListener


def test_an_accept_that_blocks_is_ended() -> None:
    """The watcher ends an accept on a listener that was made to block, and says that it was that."""
    watcher = AcceptWatcher()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        with pytest.raises(AcceptBlocked):
            watcher.accept(listener)
        assert time.monotonic() - began < 5
        with pytest.raises(OSError, match="Invalid"):  # It was shut down: that is no block.
            watcher.accept(listener)


class BlockedOnce(AcceptWatcher):
    """A watcher that has ended the first accept."""

    blocked = False

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept a connection, but not at first."""
        if not self.blocked:
            self.blocked = True
            raise AcceptBlocked
        return super().accept(listener)


async def test_an_agent_whose_accept_has_blocked_waits() -> None:
    """After an accept that has blocked, nothing is accepted from the agent for a time, on no other listener either."""
    agent, lost = EgressAgent("ada", EgressPolicy()), asyncio.Event()
    served: asyncio.Queue[socket.socket] = asyncio.Queue()
    watcher = BlockedOnce()

    def listen() -> tuple[AgentListener, socket.socket]:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        caller = socket.create_connection(listener.getsockname())
        return AgentListener(agent, listener, watcher, served.put_nowait, lambda _: lost.set()), caller

    callers = [listen()[1]]
    await asyncio.wait_for(lost.wait(), 5)
    now = asyncio.get_running_loop().time()
    assert 55 < agent.rests_until - now <= 60
    second, caller = listen()
    callers.append(caller)
    second.replace()  # It would accept what waits.
    assert served.empty()
    agent.rests_until = now
    third, caller = listen()
    callers.append(caller)
    (await asyncio.wait_for(served.get(), 5)).close()
    agent.rest(now)
    assert agent.rests_until - now == pytest.approx(120)
    third.close()
    for each in callers:
        each.close()
