"""Hives with the real gate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from hive_core.layout import Layout
from tests.unit.core.gate.gate_hive import GateHive, opened
from tests.unit.core.gate.hive_template import Template


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """A template of hives with the manager, ada and bob."""
    made = Template()
    yield made
    made.remove()


@pytest.fixture
def layout(template: Template) -> Layout:
    """The layout of a hive with the manager, ada and bob that is not open yet."""
    return template.copied()


@pytest.fixture
async def gate_hive(layout: Layout) -> AsyncIterator[GateHive]:
    """An open hive with the manager, ada and bob, and its gate."""
    async with opened(layout) as made:
        yield made
