"""Questions, reminders, pages and waking over the daemon's own sockets, and what of them outlives what."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, Json
from tests.integration.api.refusal_checks import Bad, audit_rows, check_refused, new_caller

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def waiting(hive: Daemon, agent: str) -> list[Json]:
    """What waits for an agent, seen by itself."""
    found: list[Json] = (await hive.ask("GET", "/v1/inbox", agent=agent))["messages"]
    return found


async def until_waiting(hive: Daemon, agent: str, count: int) -> list[Json]:
    """What waits for an agent, once it is so much."""
    async with asyncio.timeout(30):
        while len(found := await waiting(hive, agent)) < count:
            await asyncio.sleep(0.05)
    return found


async def entered(hive: Daemon, agent: str) -> str:
    """The operator on an agent's page: the session."""
    ticket = (await hive.ask("POST", f"/v1/agents/{agent}/page-tickets"))["ticket"]
    session: str = (await hive.ask("POST", "/v1/page/enter", {"ticket": ticket}, agent=agent))["session"]
    return session


async def test_a_question(shared: Daemon) -> None:
    """An agent asks on its socket, the operator sees and answers on his, and the agent gets the message."""
    name = await new_caller(shared)
    asked = await shared.ask("POST", "/v1/questions", {"text": "Which?", "options": ["a", "b"]}, agent=name)
    listed = await shared.ask("GET", f"/v1/questions?agent={name}")
    assert [one["id"] for one in listed["questions"]] == [asked["id"]]
    assert (await shared.ask("GET", "/v1/open", agent=name))["questions"] == listed["questions"]
    assert (await shared.ask("GET", "/v1/status"))["open_questions"] >= 1
    answered = await shared.ask("POST", f"/v1/questions/{asked['id']}/answer", {"option": 2})
    assert answered["answer"] == "b"
    assert answered["answered_by"].startswith("operator:")
    [message] = await waiting(shared, name)
    assert (message["sender"], message["leased"]) == ("operator", False)
    assert message["body"].endswith("\n\nb")


async def test_only_the_operator_answers(shared: Daemon) -> None:
    """No agent, and not the manager, can answer, list all questions, or make a ticket: there is no such endpoint."""
    asker, caller = await new_caller(shared), await new_caller(shared)
    asked = await shared.ask("POST", "/v1/questions", {"text": "May I?"}, agent=asker)
    table = [
        Bad("POST", f"/v1/questions/{asked['id']}/answer", 404, "not_found", {"text": "yes"}),
        Bad("GET", "/v1/questions", 405, "method_not_allowed"),
        Bad("POST", f"/v1/agents/{caller}/page-tickets", 404, "not_found"),
    ]
    for agent in (asker, caller, "hm1nd"):
        await check_refused(shared, table, agent)


async def test_reminders_are_the_agents_own(shared: Daemon) -> None:
    """A reminder comes to who set it, and nobody else can give it up."""
    name, other = await new_caller(shared, []), await new_caller(shared)
    made = await shared.ask("POST", "/v1/reminders", {"text": "later", "after": 3_600}, agent=name)
    cancel = f"/v1/reminders/{made['id']}/cancel"
    await check_refused(shared, [Bad("POST", cancel, 404, "unknown_reminder")], other)
    await shared.ask("POST", cancel, agent=name)
    await shared.ask("POST", "/v1/reminders", {"text": "soon", "after": 0.1}, agent=name)
    [message] = await until_waiting(shared, name, 1)
    assert (message["sender"], message["body"].rpartition("\n")[2]) == (name, "> soon")


async def test_a_page(shared: Daemon) -> None:
    """A ticket lets one browser in, to its own agent; what is typed there is the operator's, and audited as typed."""
    name, other = await new_caller(shared), await new_caller(shared)
    made = await shared.ask("POST", f"/v1/agents/{name}/page-tickets")
    ticket, enter = {"ticket": made["ticket"]}, "/v1/page/enter"
    assert made["expires_in"] == 120.0
    before = len(audit_rows(shared))
    await check_refused(shared, [Bad("POST", enter, 403, "bad_ticket", ticket)], other)
    session = await shared.ask("POST", enter, ticket, agent=name)
    user = session["user"]
    assert user.startswith("operator:")
    mine = {"session": session["session"]}
    assert (await shared.ask("POST", "/v1/page/check", mine, agent=name))["user"] == user
    sent = [
        await shared.ask("POST", "/v1/page/send", {**mine, "body": "hello", "idempotency_key": "k"}, agent=name)
        for _ in range(2)
    ]
    assert [answer["duplicate"] for answer in sent] == [False, True]
    asked = await shared.ask("POST", "/v1/questions", {"text": "May I?"}, agent=name)
    foreign = await shared.ask("POST", "/v1/questions", {"text": "May I?"}, agent=other)
    answer = {**mine, "question": asked["id"], "text": "yes"}
    answered = await shared.ask("POST", "/v1/page/answer", answer, agent=name)
    assert answered["answered_by"] == f"{user} on the page of {name}"
    rows = [row for row in audit_rows(shared, before) if row[1] != "request"]
    assert rows == [
        (user, "page_enter", name, "ok"),
        (f"{user} on the page of {name}", "page_send", name, "ok"),
        (f"{user} on the page of {name}", "answer", name, "ok"),
    ]
    assert [message["sender"] for message in await waiting(shared, name)] == ["operator", "operator"]
    table = [
        Bad("POST", enter, 403, "bad_ticket", ticket),
        Bad("POST", "/v1/page/check", 403, "bad_session", {"session": made["ticket"]}),
        Bad("POST", "/v1/page/send", 403, "bad_session", {"session": "x", "body": "b", "idempotency_key": "k"}),
        Bad(
            "POST",
            "/v1/page/send",
            413,
            "body_too_large",
            {**mine, "body": "é" * (8 * 1024) + "x", "idempotency_key": "k2"},
        ),
        Bad("POST", "/v1/page/answer", 404, "unknown_question", {**answer, "question": foreign["id"]}),
    ]
    await check_refused(shared, table, name)
    await check_refused(shared, [Bad("POST", "/v1/page/check", 403, "bad_session", mine)], other)
    everything = shared.log_text() + str(shared.sql("SELECT * FROM audit"))
    assert made["ticket"] not in everything
    assert session["session"] not in everything


async def test_wake(shared: Daemon) -> None:
    """A program in the container reaches its own agent, also one that may write to nobody."""
    name = await new_caller(shared, [])
    run = shared.core_socket(name).parent
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hive_agent", "wake", "--from", "backup", "--body", "done\n",
        env={"HIVE_AGENT_RUN": str(run), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert await process.wait() == 0
    [message] = await waiting(shared, name)
    assert (message["sender"], message["body"]) == (name, "From backup, a program in your container:\n\ndone\n")


async def test_status(shared: Daemon) -> None:
    """What an agent says it is at is seen by the operator and the other agents, whatever characters it has."""
    name, other = await new_caller(shared), await new_caller(shared)
    for text in ("reading \x1b[2J\u202e", ""):
        await shared.ask("POST", "/v1/harness/status", {"text": text}, agent=name)
        assert (await shared.agents())[name]["status"] == text
        peers = (await shared.ask("GET", "/v1/agents", agent=other))["agents"]
        assert [peer["status"] for peer in peers if peer["name"] == name] == [text]


@pytest.mark.asyncio(loop_scope="function")
async def test_what_outlives_an_agent(hive: Daemon) -> None:
    """A new agent of a destroyed one's name finds its questions and reminders; a purge removes them; sessions end."""
    session = await entered(hive, "ann")
    await hive.ask("POST", "/v1/questions", {"text": "May I?"}, agent="ann")
    await hive.ask("POST", "/v1/questions", {"text": "And I?"}, agent="bob")
    for after in (0.3, 3_600):
        await hive.ask("POST", "/v1/reminders", {"text": "look", "after": after}, agent="ann")
    await hive.ask("POST", "/v1/harness/status", {"text": "reading"}, agent="ann")
    await hive.ask("POST", "/v1/agents/ann/destroy")
    assert (await hive.ask("GET", "/v1/questions"))["total"] == 2
    await hive.spawn("ann", start=False)
    hello = {"instance": "instance-1", "version": "1"}
    await hive.ask("POST", "/v1/harness/hello", hello, agent="ann")
    [message] = await until_waiting(hive, "ann", 1)
    assert message["sender"] == "ann"
    found = await hive.ask("GET", "/v1/open", agent="ann")
    assert (len(found["questions"]), len(found["reminders"])) == (1, 1)
    assert (await hive.agents())["ann"]["status"] == ""
    await check_refused(hive, [Bad("POST", "/v1/page/check", 403, "bad_session", {"session": session})], "ann")

    await hive.ask("POST", "/v1/agents/ann/destroy", {"purge": True})
    await hive.spawn("ann", start=False)
    found = await hive.ask("GET", "/v1/open", agent="ann")
    assert (found["questions"], found["reminders"]) == ([], [])
    assert [one["agent"] for one in (await hive.ask("GET", "/v1/questions"))["questions"]] == ["bob"]


@pytest.mark.asyncio(loop_scope="function")
async def test_daemons_that_are_killed(daemon: Daemon) -> None:
    """However often the daemon is killed: every reminder comes once, and so does the end of every question; who is on a
    page stays there, and a ticket that was not used is good no more.
    """
    names, counts = ("ann", "bob"), {"/v1/reminders": 40, "/v1/questions": 15}
    for name in names:
        await daemon.spawn(name, start=False)
    session = {"session": await entered(daemon, "ann")}
    unused = {"ticket": (await daemon.ask("POST", "/v1/agents/ann/page-tickets"))["ticket"]}
    few = asyncio.Semaphore(16)  # Fewer than the connections that an agent may have.

    async def ask(name: str, path: str, number: int) -> None:
        when = "after" if path == "/v1/reminders" else "expires_in"
        async with few:
            await daemon.ask("POST", path, {"text": f"{number}", when: 1.5 + number / 40}, agent=name)

    await asyncio.gather(*(ask(name, path, n) for name in names for path in counts for n in range(counts[path])))
    came = "SELECT count(*) FROM deliveries WHERE recipient != 'operator'"
    still = " UNION ".join(f"SELECT 1 FROM {table} WHERE ended_at IS NULL" for table in ("reminders", "questions"))
    for late in (0.0, 0.1):
        # Killed as soon as more has come, or a little later.
        before = daemon.sql(came)
        async with asyncio.timeout(30):
            while daemon.sql(came) == before and daemon.sql(still):
                await asyncio.sleep(0.001)
        await asyncio.sleep(late)
        await daemon.kill()
        await daemon.start()
    await daemon.ask("POST", "/v1/page/check", session, agent="ann")
    assert (await daemon.request("POST", "/v1/page/enter", unused, agent="ann"))[0] == 403
    async with asyncio.timeout(30):
        while daemon.sql(still):
            await asyncio.sleep(0.05)
    bodies = daemon.sql("SELECT recipient, body FROM messages WHERE recipient != 'operator'")
    told = Counter((to, body.splitlines()[0].partition(",")[0].partition("(")[0]) for to, body in bodies)
    assert len(told) == len(names) * sum(counts.values())
    assert set(told.values()) == {1}
