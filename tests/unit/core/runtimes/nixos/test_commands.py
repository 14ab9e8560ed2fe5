"""Running the host's own programs for a moment."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.commands import environment, run


async def test_the_output_is_the_answer() -> None:
    """Standard output is given back whole, standard error is not part of it."""
    assert await run(["sh", "-c", "echo noise >&2; echo one; echo two"]) == "one\ntwo\n"


async def test_a_failure_tells_why() -> None:
    """The error of a program that fails holds the program's message, with control characters escaped."""
    with pytest.raises(HiveError, match=r"sh -c .*: \\x1b\[31mthis is why") as caught:
        await run(["sh", "-c", "echo answer; printf '\\033[31mthis is why\\033[0m\\n' >&2; exit 3"])
    assert caught.value.code == "command_failed"
    assert "\x1b" not in caught.value.message
    with pytest.raises(HiveError, match="exit code 3"):
        await run(["sh", "-c", "exit 3"])


async def test_a_missing_program_is_told() -> None:
    """What is not installed is named."""
    with pytest.raises(HiveError, match="no-such-program is not installed") as caught:
        await run(["no-such-program"])
    assert caught.value.code == "command_missing"


async def test_a_long_answer_is_refused() -> None:
    """More than is asked for is an error and not a part of an answer; exactly that much is not."""
    assert await run(["sh", "-c", "printf 12345"], limit_bytes=5) == "12345"
    with pytest.raises(HiveError, match="more than 5 bytes") as caught:
        await run(["sh", "-c", "printf 123456"], limit_bytes=5)
    assert caught.value.code == "command_too_long"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_nothing_goes_on_afterwards(tmp_path: Path, cancelled: bool) -> None:
    """A program that takes too long, or whose caller is cancelled, is killed with all that it has started."""
    os.mkfifo(tmp_path / "pipe")
    alive = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    script = f"exec 3>{tmp_path}/pipe; echo up >&3; sleep 60 & sleep 60"
    running = asyncio.create_task(run(["sh", "-c", script], timeout=60 if cancelled else 0.3))
    try:
        if cancelled:
            while not (await asyncio.to_thread(_read, alive)).startswith(b"up"):
                await asyncio.sleep(0.005)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        else:
            with pytest.raises(HiveError, match=r"took longer than 0\.3 s"):
                await running
        # The end of a pipe is read when its last writer is gone.
        while await asyncio.to_thread(_read, alive) != b"":
            await asyncio.sleep(0.005)
    finally:
        os.close(alive)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    except BlockingIOError:
        return b"nothing yet"


def test_only_what_programs_need_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs get the path, Nix's variables, certificates and proxies, in English, and no other variable."""
    monkeypatch.setenv("HIVE_SECRET", "x")
    monkeypatch.setenv("NIX_CONF_DIR", "/conf")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("LC_ALL", "de_DE")
    found = environment()
    assert found["NIX_CONF_DIR"] == "/conf"
    assert found["https_proxy"] == "http://proxy"
    assert found["LC_ALL"] == "C.UTF-8"
    assert found["PATH"] == os.environ["PATH"]
    assert "HIVE_SECRET" not in found
