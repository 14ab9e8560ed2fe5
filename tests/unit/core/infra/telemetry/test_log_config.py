"""What the log holds, and what never reaches it."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest
import structlog

from hive_core.infra.telemetry import log_config


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave no log behind that writes into a capture which is gone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(
    "entry",
    [
        {"api_key": "hunter2secret"},
        {"environment": {"ANTHROPIC_API_KEY": "hunter2secret"}},
        {"arguments": ["--header", "Authorization: Bearer hunter2secret"]},
        {"text": "the key is sk-ant-hunter2secret-0123456789"},
    ],
)
def test_secrets_are_hidden(entry: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Values under telling names and what looks like a credential are left out, however deep they lie."""
    log_config.configure("info")
    structlog.get_logger("test").warning("something", **entry)
    line = capsys.readouterr().err
    assert "hunter2secret" not in line
    assert json.loads(line)["event"] == "something"


def test_a_traceback_is_in_the_log_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is logged with its place, and a credential in its text is hidden."""
    log_config.configure("info")
    try:
        raise ValueError("refused sk-ant-hunter2secret-0123456789")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    entry = json.loads(capsys.readouterr().err)
    assert "test_log_config.py" in entry["exception"] and "hunter2secret" not in entry["exception"]


def test_a_line_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is killed leaves whole lines, and the next one's are not appended to half of one."""
    reader, writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)  # a packet for each write: pipe(2)
    # Without a buffer, as PYTHONUNBUFFERED has it.
    with io.FileIO(reader) as packets, io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        log_config.configure("info")
        structlog.get_logger("test").warning("something")
        assert (packets.read(10_000) or b"").endswith(b"}\n")
