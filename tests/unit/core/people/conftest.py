"""Fixtures of the tests of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.core.people.people_hive import PeopleHive, people_hive


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[PeopleHive]:
    """Accounts in a database of their own; there is none yet."""
    async with people_hive(tmp_path) as opened:
        yield opened
