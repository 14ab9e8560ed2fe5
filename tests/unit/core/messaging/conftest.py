"""A broker to test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.memory import MEMORY
from tests.unit.core.messaging.messaging_hive import MessagingHive, QuestionHive


@pytest.fixture
async def hive() -> AsyncIterator[MessagingHive]:
    """A hive of ada and bob."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        hive = MessagingHive(Path(directory))
        await hive.open()
        yield hive
        await hive.close()


@pytest.fixture
async def question_hive() -> AsyncIterator[QuestionHive]:
    """ada and bob."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        question_hive = QuestionHive(Path(directory))
        await question_hive.open()
        yield question_hive
        await question_hive.close()
