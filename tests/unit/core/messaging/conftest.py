"""A broker to test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.core.messaging.messaging_hive import MessagingHive, QuestionHive


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[MessagingHive]:
    """A hive of ada and bob."""
    hive = MessagingHive(tmp_path)
    await hive.open()
    yield hive
    await hive.close()


@pytest.fixture
async def question_hive(tmp_path: Path) -> AsyncIterator[QuestionHive]:
    """ada and bob."""
    question_hive = QuestionHive(tmp_path)
    await question_hive.open()
    yield question_hive
    await question_hive.close()
