"""People on `dashboard.sock`: what belongs to others is not there for them, whatever they ask."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.api.raw_http import Reply
from tests.integration.dashboard.people import HiveOfPeople, hive_of_people

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERS, UNKNOWN, SHARED = "ada", "zed", "bob"
SHA = "c" * 40
BODIES: Mapping[str, Any] = {
    "/v1/messages": {"to": "{name}", "body": "x"},
    "/v1/proposals": {"agent": "{name}", "commit": SHA, "note": "x"},
    "/configuration": {"base": SHA, "files": {"prompt.md": "eA=="}, "note": "x"},
    "/approve": {"commit": SHA, "expect": "built"},
    "/deny": {"commit": SHA, "expect": "built", "reason": "x"},
    "/withdraw": {"reason": "x"},
    "/allow-fetches": {"commit": SHA, "fetches": [], "note": "x"},
    "/rollback": {"to": 0, "note": "x"},
    "/rebuild": {"note": "x"},
    "/limits": {"tasks_max": 100},
    "/secrets": {"name": "KEY", "value": "eA=="},
    "/secrets/remove": {"name": "KEY"},
    "/budget/add": {"money": 1, "note": "x"},
    "/rules": {"effect": "allow", "host": "one.example", "hours": 1},
    "/rules/remove": {"host": "one.example"},
    "/access": {"kind": "run", "argv": ["true"]},
    "/answer": {"text": "x"},
    "/edit": {"body": "x"},
    "/remove": {"reason": "x"},
    "/model": {"model": "x"},
    "/code": {"code": "x"},
    "/owner": {"owner": None},
    "/contacts": {"agent": "bob"},
    "/comments": {"text": "x"},
}
"""The bodies of requests that need one, by the ends of their paths."""
STREAMS = ("/v1/events", "/events")
AT_ALL = {"/v1/me/password", "/v1/sign-out", "/v1/sessions/revoke-all", "/v1/sign-in", "/v1/set-up"}
"""About the account of the one who asks: they would end the test's session."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hive() -> AsyncIterator[HiveOfPeople]:
    """A hive with anna, otto and vera, who sees only, and root, who is an admin; bob is nobody's."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with hive_of_people(Path(home), anna="operator", otto="operator", vera="viewer", root="admin") as found:
            await found.daemon.ask("POST", "/v1/agents", {"name": SHARED, "start": False})
            yield found


def requests_about(document: Any, name: str, number: str) -> Iterator[tuple[str, str, Any]]:
    """Every endpoint of the document, about an agent or the number of something of its."""
    for path, methods in document["paths"].items():
        if path in AT_ALL or path.endswith(STREAMS):
            continue
        filled = path.replace("{name}", name).replace("{number}", "0").replace("{id}", number)
        filled = filled.replace("{repo}", "web").replace("{file}", "0")
        for method in methods:
            ends = [end for end in BODIES if path.endswith(end)]
            body = BODIES[max(ends, key=len)] if ends and method == "post" else None if method == "get" else {}
            if isinstance(body, dict):
                body = {key: value.format(name=name) if value == "{name}" else value for key, value in body.items()}
            yield method.upper(), filled, body


def without_clocks(reply: Reply) -> bytes:
    """An answer without what changes with time: moments, and the audit's own row of what was just asked."""
    text = re.sub(rb"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", b"T", reply.body)
    return re.sub(rb'"(used_at|cpu_seconds|memory_bytes)":[^,}]*', b"", text)


async def lists_of(hive: HiveOfPeople, person: str) -> dict[str, bytes]:
    """All that a person can read without naming anything."""
    document = await hive.answer(person, "GET", "/v1/openapi.json")
    lists = [path for path, methods in document["paths"].items() if "get" in methods and "{" not in path]
    # What is for admins is left out, as the refusals are in one's own part of the audit table.
    open_to_all = set(lists) - set(STREAMS) - {"/metrics", "/v1/audit/verify", "/v1/people"}
    return {path: without_clocks(await hive.ask(person, "GET", path)) for path in sorted(open_to_all)}


async def make_noise(hive: HiveOfPeople) -> dict[str, str]:
    """Let anna's agent do and get whatever leaves a trace; return the numbers of what is hers, by subject."""
    daemon = hive.daemon
    await hive.answer("anna", "POST", "/v1/agents", {"name": HERS, "prompt": "secret", "start": False})
    sent = await daemon.ask("POST", "/v1/messages", {"to": "operator", "body": "secret"}, agent=HERS)
    await daemon.ask("POST", "/v1/messages", {"to": "hm1nd", "body": "secret"}, agent=HERS)
    await hive.answer("anna", "POST", "/v1/messages", {"to": HERS, "body": "secret"})
    await daemon.ask("POST", "/v1/messages", {"to": HERS, "body": "secret"}, agent="hm1nd")
    question = await daemon.ask("POST", "/v1/questions", {"text": "secret?"}, agent=HERS)
    await daemon.ask("POST", "/v1/reminders", {"text": "secret", "after": 1_000.0}, agent=HERS)
    await daemon.ask("POST", "/v1/harness/status", {"text": "secret"}, agent=HERS)
    await hive.answer("anna", "POST", f"/v1/agents/{HERS}/stop")
    await hive.answer("anna", "POST", f"/v1/agents/{HERS}/secrets", {"name": "KEY", "value": "eA=="})
    return {"question": str(question["id"]), "message": str(sent["id"])}


async def test_nothing_is_noticed(hive: HiveOfPeople) -> None:
    """Whatever somebody else's agent does, the lists, counts and streams of others stay byte for byte as they were."""
    others = ("otto", "vera")
    before = {person: await lists_of(hive, person) for person in others}
    assert all(b"bob" in lists["/v1/agents"] for lists in before.values())
    numbers = await make_noise(hive)
    after = {person: await lists_of(hive, person) for person in others}
    for person in others:
        changed = {path for path in before[person] if before[person][path] != after[person][path]}
        assert changed == set(), (person, {path: after[person][path] for path in changed})
    seen = await lists_of(hive, "anna")
    for path in ("/v1/agents", "/v1/messages", "/v1/questions", "/v1/reminders", "/v1/audit", "/v1/status"):
        assert HERS.encode() in seen[path], path
    await check_each_request(hive, numbers)


async def check_each_request(hive: HiveOfPeople, numbers: Mapping[str, str]) -> None:
    """Every request of others about her agent is answered as one about a name that nobody has."""
    document = await hive.answer("otto", "GET", "/v1/openapi.json")
    for person in ("otto", "vera"):
        for number in numbers.values():
            pairs = zip(
                requests_about(document, HERS, number), requests_about(document, UNKNOWN, "999999"), strict=True
            )
            for (method, path, body), (_, other_path, other_body) in pairs:
                if path == "/v1/agents" and method == "POST":
                    continue  # That a name is taken is told.
                if (path, body) == (other_path, other_body):
                    continue  # It is about no agent.
                hers = await hive.ask(person, method, path, body)
                unknown = await hive.ask(person, method, other_path, other_body)
                expected = unknown.body.replace(UNKNOWN.encode(), HERS.encode()).replace(b"999999", number.encode())
                assert (hers.status, hers.body) == (unknown.status, expected), (person, method, path)
                assert hers.status >= 400, (person, method, path, hers.body)


async def test_streams_tell_each_their_own(hive: HiveOfPeople) -> None:
    """An event about somebody's agent reaches its owner and admins, and nobody else."""
    session = {person: await Stream.open(hive, person) for person in ("anna", "otto", "vera", "root")}
    await hive.answer("anna", "POST", "/v1/agents", {"name": "eve", "start": False})
    await hive.daemon.ask("POST", "/v1/messages", {"to": "operator", "body": "of eve"}, agent="eve")
    await hive.daemon.ask("POST", "/v1/messages", {"to": "operator", "body": "of bob"}, agent=SHARED)
    told = {person: await stream.until(b"of bob") for person, stream in session.items()}
    for stream in session.values():
        await stream.close()
    assert {person for person, text in told.items() if b"of eve" in text} == {"anna", "root"}
    assert {person for person, text in told.items() if b'"eve"' in text} == {"anna", "root"}


async def test_agents_of_others_do_not_know_of_each_other(hive: HiveOfPeople) -> None:
    """Agents of different owners are unknown to each other until both sides allow it."""
    daemon = hive.daemon
    await hive.answer("anna", "POST", "/v1/agents", {"name": "fay", "start": False})
    await hive.answer("otto", "POST", "/v1/agents", {"name": "gus", "start": False})

    async def refusal(sender: str, to: str) -> tuple[int, str]:
        status, answer = await daemon.request("POST", "/v1/messages", {"to": to, "body": "x"}, agent=sender)
        return status, str(answer)

    async def peers(of: str) -> set[str]:
        return {each["name"] for each in (await daemon.ask("GET", "/v1/agents", agent=of))["agents"]}

    status, text = await refusal("fay", "gus")
    assert (status, text) == (404, (await refusal("fay", "zzz"))[1].replace("zzz", "gus"))
    assert await peers("gus") == {"gus", "hm1nd"}
    assert SHARED not in await peers("fay")
    await hive.answer("anna", "POST", "/v1/agents/fay/contacts", {"agent": "gus"})
    assert (await refusal("fay", "gus"))[0] == 404
    await hive.answer("otto", "POST", "/v1/agents/gus/contacts", {"agent": "fay"})
    assert (await refusal("fay", "gus"))[0] == 200
    assert "fay" in await peers("gus")
    everyone = await daemon.ask("POST", "/v1/messages", {"to": "*", "body": "x"}, agent="gus")
    assert sorted(everyone["recipients"]) == ["fay", "hm1nd"]


async def test_inboxes_of_people(hive: HiveOfPeople) -> None:
    """The owner, else every operator, has a message with a mark of their own; the inbox on the host has all."""
    daemon = hive.daemon
    await hive.answer("anna", "POST", "/v1/agents", {"name": "ivy", "start": False})
    own = (await daemon.ask("POST", "/v1/messages", {"to": "operator", "body": "of ivy"}, agent="ivy"))["id"]
    shared = (await daemon.ask("POST", "/v1/messages", {"to": "operator", "body": "of bob"}, agent=SHARED))["id"]

    async def unread(person: str) -> set[int]:
        return {each["id"] for each in (await hive.answer(person, "GET", "/v1/messages?limit=1000"))["messages"]}

    assert {own, shared} <= await unread("anna")
    assert await unread("otto") & {own, shared} == {shared}
    assert await unread("root") & {own, shared} == {shared}
    assert (await hive.answer("otto", "POST", "/v1/messages/read", {"ids": [own, shared]}))["ids"] == [shared]
    assert await unread("otto") & {own, shared} == set()
    assert {own, shared} <= await unread("anna")
    host = {each["id"] for each in (await daemon.ask("GET", "/v1/messages?limit=1000"))["messages"]}
    assert host & {own, shared} == {own}
    everything = {each["id"] for each in (await daemon.ask("GET", "/v1/messages?view=all&limit=1000"))["messages"]}
    assert {own, shared} <= everything


async def test_a_name_stays_its_owners(hive: HiveOfPeople) -> None:
    """Nothing that a purged agent leaves is for others, who cannot take its name; an admin can give it away."""
    await hive.answer("anna", "POST", "/v1/agents", {"name": "jim", "start": False})
    await hive.answer("anna", "POST", "/v1/agents/jim/destroy", {"purge": True})
    taken = await hive.ask("otto", "POST", "/v1/agents", {"name": "jim", "start": False})
    assert (taken.status, taken.code) == (409, "agent_exists")
    assert (await hive.ask("otto", "POST", "/v1/agents/jim/owner", {"owner": "otto"})).code == "not_permitted"
    assert await hive.answer("otto", "GET", "/v1/audit?subject=jim") == {"rows": []}
    assert await hive.answer("otto", "GET", "/v1/proposals?state=all&agent=jim") == {"proposals": [], "total": 0}
    await hive.answer("root", "POST", "/v1/agents/jim/owner", {"owner": "otto"})
    assert (await hive.answer("otto", "POST", "/v1/agents", {"name": "jim", "start": False}))["owner"] == "otto"


async def test_an_admin_who_looks_is_told(hive: HiveOfPeople) -> None:
    """The owner reads in the audit table that an admin has looked at their agent."""
    await hive.answer("anna", "POST", "/v1/agents", {"name": "kim", "start": False})
    await hive.answer("root", "GET", "/v1/agents/kim/history")
    rows = (await hive.answer("anna", "GET", "/v1/audit?subject=kim"))["rows"]
    assert (rows[0]["actor"], rows[0]["action"]) == ("person:root", "look")


class Stream:
    """The stream of events of one person."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, hive: HiveOfPeople, person: str) -> Stream:
        reader, writer = await asyncio.open_unix_connection(str(hive.socket))
        credential = hive.sessions[person]
        writer.write(f"GET /v1/events HTTP/1.1\r\nHost: hive\r\nAuthorization: Bearer {credential}\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b": connected\n"), 10)
        return cls(reader, writer)

    async def until(self, text: bytes) -> bytes:
        """Return everything up to a text."""
        return await asyncio.wait_for(self._reader.readuntil(text), 10)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()
