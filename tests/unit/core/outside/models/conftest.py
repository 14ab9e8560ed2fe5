"""A ledger to test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.core.outside.models.ledger_hive import LedgerHive, ledger_hive


@pytest.fixture
async def hive() -> AsyncIterator[LedgerHive]:
    """A ledger without limits."""
    async with ledger_hive() as hive:
        yield hive
