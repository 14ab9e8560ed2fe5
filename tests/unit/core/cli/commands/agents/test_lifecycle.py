"""Each command of the program against a daemon's answers."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

import pytest

from hive_core.protocol import (
    AgentList,
    AgentStatus,
    DestroyAnswer,
    DestroyRequest,
    HiveStatus,
    InboxAnswer,
    InboxQuery,
    LogsAnswer,
    ReplyAnswer,
    SendAnswer,
    SendRequest,
)
from hive_core.protocol.models.budgets import LimitState
from hive_core.protocol.network.access import RefusedHost
from tests.unit.core.cli.commands.work.fake_host_work import work
from tests.unit.core.cli.fake_host_api import FakeHost, agent, message
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.run_cli import Program


async def test_status(hive: Program, daemon: FakeHost) -> None:
    """`status` names the confinement that is in force, and what waits for the operator."""
    ended = await hive.run("status")
    assert (ended.code, ended.err) == (0, "")
    assert "bubblewrap: own namespaces" in ended.out
    assert "2 running, 1 stopped\n" in ended.out
    assert "2 unread" in ended.out
    assert "up for 2 h" in ended.out
    assert (
        "Proposals    60.0 MiB, at most 64.0 MiB for an agent; nearly full: ada 60.0 MiB: "
        'make room with "hive-c0re proposals prune"\n'
    ) in ended.out
    assert HiveStatus.model_validate((await hive.run("status", "--json")).json).pid == 42


async def test_list(hive: Program, daemon: FakeHost) -> None:
    """`list` shows every agent on an aligned line; without a terminal nothing is coloured or cut."""
    detail = "a very long detail " * 20 + "\x1b[2J"
    daemon.agents = [agent("hm1nd"), agent("alice", state="failed", detail=detail, unacked=12, restarts=3)]
    ended = await hive.run("list")
    assert (ended.code, ended.err) == (0, "")
    header, first, second = ended.out.splitlines()
    assert header.split() == ["NAME", "KIND", "LIFECYCLE", "STATE", "BACKEND", "UNACKED", "RESTARTS", "DETAIL"]
    assert first.index("running") == second.index("running") == header.index("LIFECYCLE")
    assert "idle (3 min)" in first
    assert second.split()[:4] == ["alice", "agent", "running", "failed"]
    assert second.endswith(r"\x1b[2J")
    assert "\x1b" not in ended.out


async def test_list_explains_an_agent_that_does_not_run(hive: Program, daemon: FakeHost) -> None:
    """DETAIL tells of crashes, with the last line that was printed; an end on request explains nothing."""
    loop = {"lifecycle": "backoff", "state": "offline", "exit_cause": "exit code 1"}
    crash = {"crashes": 4, "last_crash": "exit code 1", "last_line": "busy\x1b[2J"}
    daemon.agents = [
        agent("alice", **loop, **crash),
        agent("bob", lifecycle="starting", state="offline", **crash),
        agent("carl", lifecycle="stopped", state="offline", exit_cause="killed by SIGTERM"),
        agent("dora", lifecycle="failed", state="offline", exit_cause="cannot be started: no such file"),
    ]
    header, alice, bob, carl, dora = (await hive.run("list")).out.splitlines()
    at = header.index("DETAIL")
    assert alice[at:] == bob[at:] == r'ended 4 times in a row, the last time with: exit code 1: "busy\x1b[2J"'
    assert (carl[at:], dora[at:]) == ("", "cannot be started: no such file")


async def test_costs_and_the_end_of_a_pause(hive: Program, daemon: FakeHost) -> None:
    """`list` has the cost of the day where there is any, and `show` the limits; both when a paused agent goes on."""
    daemon.agents = [agent("alice", cost_today=0.0), agent("bob")]
    assert "TODAY" not in (await hive.run("list")).out
    limit = LimitState(whose="alice", measure="money", period="day", limit=5, spent=4.1, reserved=0.2)
    calls = LimitState(whose="all", measure="calls", period="total", limit=9_000, spent=12)
    goes_on_at = datetime(2099, 12, 1, tzinfo=UTC)
    daemon.agents = [
        agent("alice", cost_today=4.1, budget=[limit, calls], state="budget", detail="it is", goes_on_at=goes_on_at),
        agent("bob", cost_today=0.0, state="failed", state_since=goes_on_at, goes_on_at=goes_on_at),
    ]
    header, alice, bob = (await hive.run("list")).out.splitlines()
    end, at = header.index("TODAY") + len("TODAY"), header.index("DETAIL")
    assert (alice[:end].split()[-1], bob[:end].split()[-1]) == ("$4.10", "$0.00")
    assert alice[at:].startswith("goes on at 2099-1") and alice.endswith("; it is")
    assert bob[at:] == ""
    shown = (await hive.run("show", "alice")).out
    assert "Spent        $4.10 today; $4.10 of $5.00 a day; 12 calls of 9000 calls in all of all agents" in shown
    assert "Goes on      2099-1" in shown
    assert (await hive.run("list", "--json")).json["agents"][0]["cost_today"] == 4.1
    assert 'Models       $4.10 today: see "hive-c0re usage --by agent --since today"' in (await hive.run("status")).out


async def test_show(hive: Program, daemon: FakeHost) -> None:
    """`show` has the facts about one agent in whole, made safe for a terminal, and none that do not apply."""
    daemon.agents = [
        agent(
            "alice",
            state="needs_login",
            detail="no key\x1b",
            model="m1",
            page_problem="process 7 listens on port 8100",
            repos=["web", "app"],
            secrets=["NPM_TOKEN"],
        ),
        agent(
            "bob", lifecycle="backoff", state="offline", pid=None, crashes=2, last_crash="exit code 1", last_line="x"
        ),
    ]
    shown = (await hive.run("show", "alice")).out
    facts = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in shown.splitlines()}
    assert facts["Process"] == "running, pid 4711, for 2 h, restarts after crashes: 0"
    assert facts["Harness"] == r"needs_login for 3 min: no key\x1b"
    assert (facts["Backend"], facts["Page"]) == ("scripted, model m1", "no page: process 7 listens on port 8100")
    assert (facts["Repositories"], facts["Secrets"]) == ("web, app", "NPM_TOKEN")
    assert facts["Limits"] == 'see "hive-c0re limits alice"'
    assert "Last end" not in facts and "At work" not in facts
    shown = (await hive.run("show", "bob")).out
    assert 'Last end     ended 2 times in a row, the last time with: exit code 1: "x"' in shown
    assert AgentStatus.model_validate((await hive.run("show", "bob", "--json")).json).name == "bob"
    assert (await hive.run("show", "carl")).code == 1


async def test_network_in_lists_and_facts(hive: Program, daemon: FakeHost) -> None:
    """`list` marks an open network and requests that wait; `show` has rules, ends and what was refused most."""
    until = datetime(2099, 1, 2, 3, 4, tzinfo=UTC)
    daemon.agents = [
        agent("alice", network="sealed", network_open=True, network_open_until=until, network_rules=3),
        agent("bob", network="sealed", network_requests=2, network_rules=1),
        agent("carl", network="host"),
    ]
    daemon.refused_hosts = [
        RefusedHost(host=f"x{number}\x1b.example", port=443, reason="no_rule", why="", count=9 - number, first_at=until,
                    last_at=until)
        for number in range(5)
    ]  # fmt: skip
    header, alice, bob, carl = (await hive.run("list")).out.splitlines()
    at = header.index("DETAIL")
    assert alice[at:].startswith("network OPEN until ") and "2099" in alice[at:]
    assert (bob[at:], carl[at:]) == ("2 requests for the network wait", "")

    async def facts(name: str) -> dict[str, str]:
        lines = (await hive.run("show", name)).out.splitlines()
        return {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines}

    shown = await facts("alice")
    assert shown["Network"].startswith("sealed, 3 rules, network OPEN until ")
    assert shown["Network"].endswith(': "hive-c0re net alice"')
    assert shown["Refused most"] == ", ".join(f'"x{number}\\x1b.example:443 ({9 - number})"' for number in range(3))
    assert (await facts("bob"))["Network"].startswith("sealed, 1 rule, 2 requests for the network wait: ")
    shown = await facts("carl")
    assert shown["Network"] == "host: no rule holds for it" and "Refused most" not in shown
    assert (await hive.run("show", "bob", "--json")).json["network_requests"] == 2


async def test_list_of_nothing(hive: Program, daemon: FakeHost) -> None:
    """An empty hive says so, but not on stdout."""
    ended = await hive.run("list")
    assert (ended.code, ended.out) == (0, "")
    assert "no agents yet" in ended.err
    assert (await hive.run("list", "--json")).json == {"agents": []}


async def test_list_as_json(hive: Program, daemon: FakeHost) -> None:
    """`list --json` is the daemon's answer, in characters that no terminal acts on."""
    daemon.agents = [agent("alice", detail="\x9b2J\x7f\u202e")]
    ended = await hive.run("list", "--json")
    assert AgentList.model_validate(ended.json).agents == daemon.agents
    assert ended.out.isascii()
    assert ended.out.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("action", "word"),
    [(["start", "--no-wait"], "running"), (["stop"], "stopped"), (["restart", "--no-wait"], "running")],
)
async def test_lifecycle(action: list[str], word: str, hive: Program, daemon: FakeHost) -> None:
    """`stop`, and `start` and `restart` that need not wait, ask the daemon and tell what the agent is now."""
    daemon.agents = [agent("alice")]
    ended = await hive.run(*action, "alice")
    assert (ended.code, ended.out, ended.err) == (0, f"alice is {word}\n", "")
    assert daemon.asked == [("POST", f"/v1/agents/alice/{action[0]}", None)]
    assert AgentStatus.model_validate((await hive.run(*action, "alice", "--json")).json).lifecycle == word


@pytest.mark.parametrize("action", ["start", "restart"])
async def test_start_and_restart_wait_for_the_outcome(action: str, hive: Program, daemon: FakeHost) -> None:
    """They end when the harness is ready, and tell on stderr what happens until then."""
    daemon.agents = [agent("alice")]
    states = [agent("alice", state=state) for state in ("offline", "starting", "thinking")]
    daemon.later = list(states)
    ended = await hive.run(action, "alice")
    assert (ended.code, ended.out) == (0, "alice is thinking\n")
    assert [line.rpartition(" ")[2] for line in ended.err.splitlines()] == ["offline", "starting", "thinking"]
    daemon.later = list(states)
    assert AgentStatus.model_validate((await hive.run(action, "alice", "--json")).json).state == "thinking"


@pytest.mark.parametrize("action", ["start", "restart"])
async def test_a_start_that_fails_is_an_error(action: str, hive: Program, daemon: FakeHost) -> None:
    """An agent that does not come up ends the command with 1, with the last line of its programs, also as JSON."""
    daemon.agents = [agent("alice")]
    loop = agent(
        "alice", lifecycle="backoff", state="offline", crashes=3, last_crash="exit code 1", last_line="no /init"
    )
    daemon.later = [loop]
    ended = await hive.run(action, "alice")
    assert (ended.code, ended.out) == (1, "")
    assert f"alice was {action}ed, but does not come up" in ended.err
    assert '3 times in a row, the last time with: exit code 1: "no /init"' in ended.err
    daemon.later = [loop]
    ended = await hive.run(action, "alice", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert json.loads(ended.err.splitlines()[-1])["error"]["code"] == "not_ready"


async def test_a_start_is_not_waited_for_for_ever(hive: Program, daemon: FakeHost) -> None:
    """After --timeout the command fails and says what the agent is doing, and how it ended meanwhile."""
    daemon.agents = [agent("alice")]
    once = {"lifecycle": "backoff", "state": "offline", "crashes": 1, "last_crash": "exit code 1"}
    daemon.later = [agent("alice", **once)] * 20
    ended = await hive.run("restart", "alice", "--timeout", "0")
    assert ended.code == 1
    assert "is not ready after 0 s (its harness is offline): it has ended with: exit code 1" in ended.err


async def test_destroy_keeps(hive: Program, daemon: FakeHost) -> None:
    """`destroy` without --purge asks nothing and keeps the agent's files."""
    daemon.agents = [agent("alice")]
    ended = await hive.run("destroy", "alice")
    assert (ended.code, ended.out) == (0, "alice is destroyed; its files and waiting messages are kept\n")
    assert 'to remove them: "hive-c0re spawn alice --no-start", then "hive-c0re destroy alice --purge"' in ended.err
    assert daemon.asked[0][2] == DestroyRequest(purge=False)


async def test_destroying_the_manager_names_what_waited_for_it(hive: Program, daemon: FakeHost) -> None:
    """`destroy hm1nd` names the proposals that the operator has to decide on from then on."""
    daemon.agents = [agent("hm1nd")]
    daemon.gate.proposals = [proposal(waits_for="manager")]
    daemon.working.work = [work()]
    ended = await hive.run("destroy", "hm1nd")
    assert ended.code == 0, ended.err
    assert 'these waited for hm1nd and wait for you now:\n  ada/3: decide with "hive-c0re approve ada 3"' in ended.err
    assert 'web/3: decide with "hive-c0re work approve web/3"' in ended.err


async def test_purge_needs_a_yes(hive: Program, daemon: FakeHost) -> None:
    """--purge without a terminal and without --yes is refused before the daemon hears of it."""
    daemon.agents = [agent("alice")]
    ended = await hive.run("destroy", "alice", "--purge", stdin=b"y\n")
    assert (ended.code, ended.out, daemon.asked) == (2, "", [])
    assert "--yes" in ended.err
    ended = await hive.run("destroy", "alice", "--purge", "--yes", "--json")
    assert DestroyAnswer.model_validate(ended.json) == DestroyAnswer(name="alice", purged=True, dropped_messages=3)
    assert daemon.asked[0][2] == DestroyRequest(purge=True)


async def test_send(hive: Program, daemon: FakeHost) -> None:
    """`send` tells the message's number; what is sent is exactly what was given."""
    ended = await hive.run("send", "alice", "hello\n  there", "--reply-to", "3", "--key", "k1")
    assert (ended.code, ended.out, ended.err) == (0, "message 7 → alice\n", "")
    assert daemon.asked[0][2] == SendRequest(to="alice", body="hello\n  there", reply_to=3, idempotency_key="k1")
    assert SendAnswer.model_validate((await hive.run("send", "*", "hi", "--json")).json).id == 7


async def test_send_from_stdin(hive: Program, daemon: FakeHost) -> None:
    """A body of `-` is what stdin holds, unchanged; what is not UTF-8 is refused."""
    text = "line\n\x00\u202e \U0001f41d\n"
    assert (await hive.run("send", "alice", "-", stdin=text.encode())).code == 0
    assert daemon.asked[0][2] == SendRequest(to="alice", body=text)
    ended = await hive.run("send", "alice", "-", stdin=b"a\xff")
    assert (ended.code, ended.out) == (1, "")
    assert "not UTF-8 (byte 1)" in ended.err


async def test_ask(hive: Program, daemon: FakeHost) -> None:
    """`ask` prints the answer and nothing else, made safe for a terminal, and marks it as read."""
    daemon.agents = [agent("alice")]
    daemon.reply = message(9, "alice", "two\nlines\x1b[2J", reply_to=7)
    ended = await hive.run("ask", "alice", "how many?")
    assert (ended.code, ended.out, ended.err) == (0, "two\nlines\\x1b[2J\n", "")
    assert daemon.read == [9]
    ended = await hive.run("ask", "alice", "-", "--json", stdin=b"how many?")
    assert ReplyAnswer.model_validate(ended.json).reply == daemon.reply


async def test_ask_in_vain(hive: Program, daemon: FakeHost) -> None:
    """Without an answer in time `ask` ends with 4; that the agent is stopped is said at once."""
    daemon.agents = [agent("alice", lifecycle="stopped", state="offline")]
    ended = await hive.run("ask", "alice", "there?", "--timeout", "0.2")
    assert (ended.code, ended.out, daemon.read) == (4, "", [])
    assert "alice is stopped" in ended.err
    assert "no answer from alice to message 7 within 0.2 s" in ended.err
    daemon.agents = []
    assert (await hive.run("ask", "alice", "?", "--timeout", "0", "--json")).error["code"] == "ask_timeout"


async def test_ask_ends_with_the_turn(hive: Program, daemon: FakeHost) -> None:
    """A message that was handled without an answer ends `ask` at once, with 4 and with what happened."""
    daemon.agents, daemon.handled = [agent("alice")], True
    ended = await hive.run("ask", "alice", "there?", "--json")
    assert (ended.code, ended.error["code"]) == (4, "ask_unanswered")
    assert "ended its turn without an answer" in ended.error["message"]


async def test_ask_outlives_a_restart(hive: Program, daemon: FakeHost) -> None:
    """A daemon that restarts while `ask` waits is asked again."""
    daemon.agents = [agent("alice")]
    process = await hive.begin("ask", "alice", "there?", "--timeout", "60")
    await daemon.asked_for_reply.wait()
    await daemon.stop()
    daemon.reply = message(9, "alice", "yes", reply_to=7)
    await daemon.start()
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"yes\n", b"")


async def test_inbox(hive: Program, daemon: FakeHost) -> None:
    """`inbox` shows the unread messages, safe for a terminal, and then marks them as read."""
    daemon.inbox = [message(3, "alice", "one\ntwo\x1b]0;x\x07"), message(4, "bob", "three", reply_to=2)]
    daemon.unread = 5
    ended = await hive.run("inbox")
    assert ended.out == (
        "alice  #3  2 min ago\n  one\n  two\\x1b]0;x\\x07\n\nbob  #4  2 min ago  answers #2\n  three\n"
    )
    assert (ended.code, ended.err) == (0, "more unread messages: 3\n")
    assert daemon.read == [3, 4]


async def test_inbox_kept(hive: Program, daemon: FakeHost) -> None:
    """--keep marks nothing as read, --all asks for what was read, too, and --json is the daemon's answer."""
    daemon.inbox, daemon.unread = [message(3, "alice", "one")], 1
    ended = await hive.run("inbox", "--all", "--keep", "--json", "-n", "5", "--before", "9")
    assert InboxAnswer.model_validate(ended.json) == InboxAnswer(messages=daemon.inbox, unread=1)
    assert daemon.asked == [("GET", "/v1/messages", InboxQuery(view="all", limit=5, before=9))]
    assert (ended.err, daemon.read) == ("", [])


async def test_inbox_of_nothing(hive: Program, daemon: FakeHost) -> None:
    """An empty inbox leaves stdout empty and marks nothing."""
    ended = await hive.run("inbox")
    assert (ended.code, ended.out, ended.err) == (0, "", "no messages to show\n")
    assert [method for method, _, _ in daemon.asked] == ["GET"]


async def test_logs(hive: Program, daemon: FakeHost) -> None:
    """`logs` prints each line on one line, whatever it holds."""
    answer = LogsAnswer(lines=["one", "\x1b[2Jtwo\nthree"], cursor="5")
    daemon.logs = [answer, answer]
    ended = await hive.run("logs", "alice", "-n", "2")
    assert (ended.code, ended.out, ended.err) == (0, "one\n\\x1b[2Jtwo\\nthree\n", "")
    assert LogsAnswer.model_validate((await hive.run("logs", "alice", "--json")).json) == answer


@pytest.mark.parametrize("as_json", [False, True])
async def test_logs_followed(as_json: bool, hive: Program, daemon: FakeHost) -> None:
    """`logs -f` goes on from the cursor until Ctrl-C, which ends it with 130 and without a traceback."""
    daemon.logs = [LogsAnswer(lines=["one"], cursor="a"), LogsAnswer(lines=["two"], cursor="b")]
    process = await hive.begin("logs", "alice", "-f", *(["--json"] if as_json else []))
    assert process.stdout is not None
    shown = [await process.stdout.readline(), await process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"", b"")
    if as_json:
        assert [LogsAnswer.model_validate_json(line).cursor for line in shown] == ["a", "b"]
    else:
        assert shown == [b"one\n", b"two\n"]
    assert [getattr(query, "cursor", None) for _, _, query in daemon.asked][:2] == [None, "a"]


async def test_the_hosts_network_says_why(hive: Program, daemon: FakeHost) -> None:
    """A network that nobody has decided on is shown with its reason, and where nothing is sealed that is loud."""
    daemon.agents = [
        agent("alice", network="host", network_implied=True),
        agent("bob", network="sealed", unsealed=True, network_open=True),
    ]
    assert "host (from before sealed was the default): no rule holds" in (await hive.run("show", "alice")).out
    assert "host: NOT SEALED" in (await hive.run("show", "bob")).out
    listed = (await hive.run("list")).out.splitlines()
    assert "NOT SEALED" in listed[2] and "OPEN" not in listed[2]
