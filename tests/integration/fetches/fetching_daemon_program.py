"""The daemon's program for tests of fetches: it can be killed, and the builder of its local runtime is a fake.

The fake builder reads `FETCHES` lines in `agent.nix` (`tests.helpers.fake_fetches`); what it does not refuse is built
as the local runtime builds it. Otherwise this is `tests.integration.gate.crashing_daemon_program`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from hive_core.infra.git.repository import Repository
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.local.builder import Builder
from tests.helpers.fake_fetches import check_fake_fetches
from tests.integration.gate.crashing_daemon_program import become_mortal, live_again_and_again

_build = Builder.build


async def _fake_build(self: Builder, order: BuildOrder, say: Callable[[str], None]) -> str:
    """Takes the place of `Builder.build`."""
    check_fake_fetches(await asyncio.to_thread(_agent_nix, order), order)
    return await _build(self, order, say)


def _agent_nix(order: BuildOrder) -> str:
    with Repository.open(order.repository) as repository:
        return (repository.read(order.commit, "agent.nix", 1_000_000) or b"").decode()


def _become_mortal_and_fake_builds() -> None:
    become_mortal()
    Builder.build = _fake_build  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(live_again_and_again(_become_mortal_and_fake_builds))
