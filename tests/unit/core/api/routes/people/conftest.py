"""Fixtures of the tests of the endpoints of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.core.api.routes.people.people_api import PeopleApi, people_api


@pytest.fixture
async def api(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PeopleApi]:
    """The endpoints of accounts, without an account."""
    async with people_api(tmp_path, tmp_path_factory.mktemp("s")) as opened:
        yield opened
