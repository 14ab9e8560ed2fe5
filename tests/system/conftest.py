"""Tests in a booted systemd host: they run in none but that of `tests/system/host.sh`, and share a hive there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.host_hive import SETTINGS, HostHive, call, rule, set_up

HERE = Path(__file__).parent

APPROVES_ADA = rule(
    "system",
    r"\AReview proposal (ada)/(\d+): approve or deny it ",
    decide={"agent": "{1}", "number": "{2}", "decision": "approve", "note": "It is what the operator asked for."},
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests below this directory, and skip them on a machine that is not theirs to change."""
    elsewhere = pytest.mark.skip(reason="changes the host: runs in one of its own, with ./dev test --system")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.system)
            if not os.environ.get("HIVE_TEST_HOST"):
                item.add_marker(elsewhere)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the host's journal with a failure: of the daemon, its builds and the containers."""
    report = yield
    if report.failed and os.environ.get("HIVE_TEST_HOST") and item.path.is_relative_to(HERE):
        units = ("--unit=hive-c0re", "--unit=container@*", "--unit=hive-build-*")
        journal = call("journalctl", "--no-pager", "--output=short-precise", "--lines=150", *units, check=False)
        report.sections.append(("the host's journal", journal))
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hive(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HostHive]:
    """The hive that these tests share: a manager that approves whatever ada proposes, and no agent."""
    set_up(SETTINGS)
    shared = HostHive(tmp_path_factory.mktemp("h"))
    await shared.start()
    await shared.spawn_with("hm1nd", [APPROVES_ADA])
    yield shared
    await shared.close()
