"""Helpers of the gate's tests: the refusal of a request, the prompt of a harness, the next build, an older hive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from hive_core.errors import HiveError
from hive_core.gate.pipeline.build import BuildResult
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.runtimes.base import BuildOrder
from tests.unit.core.gate.gate_hive import PATIENCE, GateHive


async def refused(request: Awaitable[object]) -> HiveError:
    """Return the error with which a request is refused."""
    with pytest.raises(HiveError) as refusal:
        await request
    return refusal.value


def prompt(gate_hive: GateHive, agent: str) -> str:
    """Return the prompt with which the agent's harness was started."""
    return (gate_hive.runtime.locate(gate_hive.runtime.specs[agent].closure) / "prompt.md").read_text()


async def begun(gate_hive: GateHive) -> BuildOrder:
    """Wait for the next build that begins."""
    async with asyncio.timeout(PATIENCE):
        return await gate_hive.runtime.orders.get()


@contextmanager
def older_hive() -> Iterator[None]:
    """Let builds write the tags of a hive that compares nothing."""
    write = BuildResult.tag

    def without_tree(built: BuildResult, row: ProposalRow) -> ProposalTag:
        return replace(write(built, row), tree=None)

    with patch.object(BuildResult, "tag", without_tree):
        yield
