"""What systemd keeps for the next daemon."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hive_core.infra.systemd.descriptor_store import DescriptorStore
from hive_core.infra.systemd.notify import Notifier
from tests.unit.core.infra.systemd.fake_descriptor_store import FakeDescriptorStore


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDescriptorStore]:
    """A store without anything in it."""
    fake = FakeDescriptorStore(tmp_path_factory.mktemp("n") / "notify", monkeypatch)
    yield fake
    fake.close()


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_what_is_stored_comes_with_the_next_start(systemd: FakeDescriptorStore) -> None:
    """A stored socket is the same one after a restart; under a name there is the newest; no child inherits it."""
    first = systemd.start()
    with listener() as old, listener() as new, listener() as other:
        first.put("page-ada", old)
        first.put("page-bob", other)
        first.put("page-ada", new)
        address = new.getsockname()
    second = systemd.start()
    assert "LISTEN_FDS" not in os.environ
    taken = second.take("page-ada")
    assert taken is not None and taken.getsockname() == address and not taken.get_inheritable()
    assert second.take("page-ada") is None
    taken.close()
    second.remove_unused()
    systemd.receive()
    assert list(systemd.stored) == ["page-ada"]


def test_what_another_process_was_given_is_left_alone(
    systemd: FakeDescriptorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors that were passed to a parent are not taken, and a unit without a store is sent none."""
    systemd.start()
    monkeypatch.setenv("FDSTORE", "0")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "page-ada")
    store = DescriptorStore(Notifier())
    assert store.take("page-ada") is None
    with listener() as unkept:
        store.put("page-ada", unkept)
    systemd.receive()
    assert systemd.stored == {}
