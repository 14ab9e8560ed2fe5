"""The trial of agents' seals."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from hive_core.cli.errors import Failure
from hive_core.cli.live.listeners import HostListeners
from hive_core.cli.live.seal_check import SealCheck


def test_a_host_that_cannot_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which the doctor can open no listener says so, in `doctor --live` as with names of agents."""
    monkeypatch.setattr(HostListeners, "open", MagicMock(side_effect=OSError(24, "Too many open files")))
    with pytest.raises(Failure, match="Too many open files") as refused:
        SealCheck(MagicMock(), MagicMock()).run([{"name": "ada"}])
    assert refused.value.code == "cannot_listen"
