"""`hive-ag3nt wake`: the real program on a real socket."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from hive_agent.client import wake as wake_program
from hive_agent.environment import AgentEnvironment
from hive_core.protocol import MAX_BODY_BYTES, WakeRequest
from tests.unit.agent.fake_core_api import FakeCore, refusal

ROOT = Path(__file__).parents[4]


async def wake(run: Path, *arguments: str | bytes, stdin: bytes = b"") -> tuple[int | None, str]:
    """Run it as a program in the container does; the exit code, and what it says."""
    environment = {**os.environ, "HIVE_AGENT_RUN": str(run), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hive_agent", "wake", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    )
    out, err = await process.communicate(stdin)
    assert out == b""
    return process.returncode, err.decode()


@pytest.mark.parametrize(("body", "stdin", "expected"), [("it is done", b"", "it is done"), ("-", b"two\nlines", None)])
async def test_wake(core: FakeCore, body: str, stdin: bytes, expected: str | None) -> None:
    """The text, or what stdin holds, is stored with who it is from; nothing is said."""
    assert await wake(core.socket.parent, "--from", "backup", "--body", body, stdin=stdin) == (0, "")
    [request] = core.asking.asked
    assert isinstance(request, WakeRequest)
    assert (request.label, request.body) == ("backup", expected or stdin.decode())
    assert request.idempotency_key


async def test_wake_outlasts_a_restart(core: FakeCore) -> None:
    """A daemon that is restarting is waited for, and asked for the same message."""
    core.refusals["POST /v1/wake"] = refusal(503, "stopping", "going down")
    waiting = asyncio.create_task(wake(core.socket.parent, "--from", "backup", "--body", "x"))
    await core.until(lambda: core.calls.count("POST /v1/wake") >= 2)
    core.refusals.clear()
    assert (await waiting)[0] == 0
    assert len(core.asking.asked) == 1


async def test_what_is_refused(core: FakeCore) -> None:
    """What the hive refuses, and bytes that are no text, end with 1 and say why."""
    run = core.socket.parent
    code, said = await wake(run, "--from", "a", "--body", b"x\xff")
    assert (code, said) == (1, "the text is not valid UTF-8 (byte 1) (convert it with iconv)\n")
    core.refusals["POST /v1/wake"] = refusal(429, "inbox_full", "10000 wait already", "handle some")
    code, said = await wake(run, "--from", "a", "--body", "x")
    assert (code, said) == (1, "10000 wait already (handle some)\n")
    assert core.asking.asked == []


@pytest.mark.parametrize(
    ("label", "body", "stdin", "why"),
    [
        ("a\nb", "x", b"", "the label of --from is not valid"),
        ("x" * 101, "x", b"", "the label of --from is not valid"),
        ("", "x", b"", "the label of --from is not valid"),
        ("\udcff", "x", b"", "not valid UTF-8 (byte 0)"),
        ("a", "-", b"a\xff", "not valid UTF-8 (byte 1)"),
        ("a", "-", b"x" * (MAX_BODY_BYTES + 1), f"more than {MAX_BODY_BYTES} bytes"),
        ("a", "x" * (MAX_BODY_BYTES + 1), b"", f"more than {MAX_BODY_BYTES} bytes"),
    ],
)
async def test_what_cannot_be_sent(
    core: FakeCore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    label: str,
    body: str,
    stdin: bytes,
    why: str,
) -> None:
    """What is no label, no text or too long is said, and nobody is asked."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    environment = AgentEnvironment.read({"HIVE_AGENT_RUN": str(core.socket.parent)})
    assert await wake_program.wake(environment, label, body, 5.0) == 1
    assert why in capsys.readouterr().err
    assert core.calls == []


async def test_nobody_there(run_dir: Path) -> None:
    """Without a hive it ends with 3 once its patience is over; without a label it is used wrongly."""
    code, said = await wake(run_dir, "--from", "a", "--body", "x", "--patience", "0")
    assert code == 3
    assert "is hive-c0re running?" in said
    assert (await wake(run_dir, "--body", "x"))[0] == 2
