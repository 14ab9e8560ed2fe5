"""A host, and the runtime of a daemon on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.runtime import NixosRuntime
from tests.unit.core.runtimes.nixos.fake_host import FakeHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host = FakeHost(tmp_path)
    monkeypatch.setenv("PATH", host.path)
    return host


@pytest.fixture
async def runtime(host: FakeHost) -> AsyncIterator[NixosRuntime]:
    runtime = await host.daemon()
    yield runtime
    await runtime.close()
