"""Small questions that several files of tests ask of a scene."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildOrder
from tests.unit.core.gate.gate_hive import PATIENCE, GateHive


async def refused(request: Awaitable[object]) -> HiveError:
    """The refusal with which a request ends."""
    with pytest.raises(HiveError) as refusal:
        await request
    return refusal.value


def prompt(gate_hive: GateHive, agent: str) -> str:
    """What the agent's harness has been started on."""
    return Path(gate_hive.runtime.specs[agent].closure, "prompt.md").read_text()


async def begun(gate_hive: GateHive) -> BuildOrder:
    """The next build that begins."""
    async with asyncio.timeout(PATIENCE):
        return await gate_hive.runtime.orders.get()
