"""The data and controls of a harness, as the daemon passes them on to the operator."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.helpers.real_daemon import Daemon
from tests.unit.core.cli.run_cli import Program


async def control(daemon: Daemon, path: str = "", method: str = "GET", body: object = None) -> dict[str, object]:
    answer: dict[str, object] = await daemon.ask(method, f"/v1/agents/ada/control{path}", body)
    return answer


async def test_an_operator_steers_a_turn(daemon: Daemon) -> None:
    """Paused, an agent begins no turn; resumed it does; a control that does not fit is refused; orders are audited."""
    await daemon.ask("POST", "/v1/agents", {"name": "ada"})
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    await control(daemon, "/pause", "POST", {})
    await daemon.agent_until("ada", lambda agent: agent["state"] == "paused")
    await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "hello"})
    assert (await control(daemon))["paused"] is True and (await control(daemon))["turns"] == 0
    await control(daemon, "/resume", "POST", {})
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle" and agent["unacked"] == 0)
    turns = (await control(daemon, "/turns"))["turns"]
    assert [turn["state"] for turn in turns] == ["ok"]  # type: ignore[attr-defined]
    entries = (await control(daemon, f"/transcript?turn={turns[0]['id']}"))["entries"]  # type: ignore[index]
    assert entries[0]["kind"] == "message" and entries[0]["text"] == "hello"  # type: ignore[index]
    with pytest.raises(Exception, match="not_now"):
        await control(daemon, "/cancel", "POST", {})
    rows = (await daemon.ask("GET", "/v1/audit?subject=ada"))["rows"]
    assert [row["detail"]["do"] for row in rows if row["action"] == "control"] == ["cancel", "resume", "pause"]


async def test_turns_are_stopped_retried_and_skipped(daemon: Daemon) -> None:
    """`cancel` holds the running turn, `retry` runs it again, `skip` ends it; `transcript -f` and `watch` show it."""
    hive = Program(daemon.host_socket)

    async def run(*words: str) -> str:
        ended = await hive.run(*words)
        assert ended.code == 0, ended.err
        return ended.out

    async def until(state: str) -> None:
        await daemon.agent_until("ada", lambda agent: agent["state"] == state)

    await daemon.spawn("ada", script=[{"match": "slow", "think": 60.0}])
    await until("idle")
    followed, watched = await hive.begin("transcript", "ada", "-f"), await hive.begin("watch", "ada", "--after", "0")
    try:
        await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "slow work"})
        await until("thinking")
        assert await run("cancel", "ada") == "ada stops its turn, which is held\n"
        await until("idle")
        assert "held" in (await run("transcript", "ada", "--list"))
        missing = await hive.run("transcript", "ada", "--turn", "99")
        assert missing.code == 1 and "nothing is stored of turn 99" in missing.err
        assert await run("retry", "ada") == "ada tries turn 1 again\n"
        await until("thinking")
        await run("cancel", "ada")
        await until("idle")
        assert await run("skip", "ada") == "ada gives turn 1 up\n"
        await daemon.agent_until("ada", lambda agent: agent["unacked"] == 0)
        refused = await hive.run("skip", "ada")
        assert refused.code == 1 and "no turn of ada is held or waits" in refused.err
        for process in (followed, watched):
            assert process.stdout is not None
            async with asyncio.timeout(30):
                await process.stdout.readuntil(b"slow work")
            # The stream of a harness that is not open yet tells nothing of what was before.
            seen = asyncio.create_task(process.stdout.readuntil(b"> send"))
            while not seen.done():
                assert await run("ask", "ada", "hello") == "ada heard: hello\n"
    finally:
        for process in (followed, watched):
            process.send_signal(signal.SIGINT)
            await process.communicate()
            assert process.returncode == 130


async def test_what_is_no_turn_is_steered_too(daemon: Daemon) -> None:
    """`new-session`, `model`, `compact` and `login` reach the harness; what it cannot do is said in its words."""
    hive = Program(daemon.host_socket)
    await daemon.spawn("ada")
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    begun = await hive.run("new-session", "ada")
    assert begun.code == 0, begun.err
    compacted = await hive.run("compact", "ada")
    assert compacted.code == 1 and 'ada says: "There is no conversation yet' in compacted.err
    assert "the default of its program" in (await hive.run("model", "ada")).out
    chosen = await hive.run("model", "ada", "opus", "--effort", "high")
    assert (chosen.code, chosen.out.splitlines()[:1]) == (0, ["ada uses opus, effort high"]), chosen.err
    assert "the default of its program" in (await hive.run("model", "ada", "--reset")).out
    login = await hive.run("login", "ada")
    assert login.code == 1 and "needs no login" in login.err
    refused = await hive.run("cancel", "ada")
    assert refused.code == 1 and refused.err.startswith("hive-c0re: ")


async def test_the_command_line_shows_a_turn_and_changes_the_queue(daemon: Daemon) -> None:
    """What the page can do are commands: a turn is shown, waiting messages are shown, moved, edited and removed."""
    hive = Program(daemon.host_socket)

    async def run(*words: str) -> str:
        ended = await hive.run(*words)
        assert ended.code == 0, ended.err
        return ended.out

    await daemon.ask("POST", "/v1/agents", {"name": "ada"})
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
    sent = [(await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": "hello"}))["id"]]
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle" and agent["unacked"] == 0)
    assert f"operator #{sent[0]} hello" in await run("transcript", "ada")
    await run("pause", "ada")
    for body in ("one", "two", "three"):
        sent.append((await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": body}))["id"])
    await run("queue", "ada", "move", str(sent[3]), "--before", str(sent[1]))
    await run("queue", "ada", "edit", str(sent[1]), "uno")
    await run("queue", "ada", "remove", str(sent[2]), "--note", "no need")
    assert [line.split()[-1] for line in (await run("queue", "ada")).splitlines()[1:]] == ["three", "uno"]
    await run("resume", "ada")
    await daemon.agent_until("ada", lambda agent: agent["state"] == "idle" and agent["unacked"] == 0)
    shown = await run("transcript", "ada", "-q")
    assert shown.index("three") < shown.index("uno") and "two" not in shown
    typo = await hive.run("transcrpt", "ada")
    assert typo.code == 2 and "Did you mean 'transcript'?" in typo.err
