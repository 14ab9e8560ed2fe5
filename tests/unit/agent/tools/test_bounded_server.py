"""Results of tools are never longer than agent CLIs pass on to their models, and say where the rest is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hive_agent.tools.bounded_server import MOST_BYTES, MOST_LINES
from hive_core.protocol import Peer, PeerList
from tests.unit.agent.fake_core_api import FakeCore, refusal
from tests.unit.agent.tools.tool_client import INSTANCE, text, tools


def fits(result: str) -> bool:
    return len(result.encode()) <= MOST_BYTES and result.count("\n") < MOST_LINES


async def test_many_agents_are_listed_in_parts(core: FakeCore, tmp_path: Path) -> None:
    """Each agent of a large hive is in one of the parts, and each part says how to get the next one."""
    names = [f"a{number}" for number in range(400)]
    peers = [Peer(name=name, kind="agent", lifecycle="running", state="idle", status="ä" * 200) for name in names]
    core.raw["GET /v1/agents"] = PeerList(agents=peers).model_dump_json()
    found: list[str] = []
    skip: int | None = 0
    async with tools(core, tmp_path) as client:
        while skip is not None:
            part = text(await client.call_tool("list_agents", {"skip": skip}))
            assert fits(part)
            listed = re.findall(r"^(a\d+) \(agent\)", part, re.MULTILINE)
            assert listed
            found += listed
            more = re.search(r"for more: skip=(\d+)\]", part)
            skip = int(more[1]) if more else None
    assert found == names


@pytest.mark.parametrize("body", ["é" * 29_000, "\x1b" * 29_000, "\n" * 29_000], ids=["bytes", "escapes", "lines"])
async def test_a_long_result_is_cut_and_kept(core: FakeCore, tmp_path: Path, body: str) -> None:
    """A result that grows beyond the bound says so in its first line, which names the file with the whole of it."""
    await core.deliver(body, sender="bob")
    async with tools(core, tmp_path) as client:
        result = text(await client.call_tool("recv", {}))
    assert fits(result)
    head, _, shown = result.partition("\n")
    found = re.fullmatch(r"\[only the first (\d+) of (\d+) characters are here; the whole is in (.+)\]", head)
    assert found is not None
    whole = Path(found[3]).read_text()  # noqa: ASYNC240
    assert whole.startswith(shown) and len(whole) == int(found[2]) and len(shown) == int(found[1])
    assert whole.endswith("end of message 1")


async def test_many_messages_fit(core: FakeCore, tmp_path: Path) -> None:
    """As many messages as can be fetched at once are all shown with their beginnings."""
    for _ in range(100):
        await core.deliver("x" * 5_000, sender="bob")
    async with tools(core, tmp_path) as client:
        result = text(await client.call_tool("recv", {"max": 100}))
    assert fits(result)
    assert len(re.findall("end of message", result)) == 100


async def test_a_long_error_is_cut(core: FakeCore, tmp_path: Path) -> None:
    """An error is bounded as well, and stays an error."""
    core.refusals["POST /v1/messages"] = refusal(403, "refused", "no " * 20_000)
    async with tools(core, tmp_path) as client:
        result = await client.call_tool("send", {"to": "bob", "body": "hi"})
    assert result.is_error and fits(text(result))


async def test_a_result_that_cannot_be_kept(core: FakeCore, tmp_path: Path) -> None:
    """The result says that the rest is lost if there is no room for the file."""
    (tmp_path / "results").write_text("in the way")
    await core.deliver("é" * 29_000, sender="bob")
    async with tools(core, tmp_path) as client:
        result = text(await client.call_tool("recv", {}))
    assert "the rest is lost" in result and fits(result)
    assert core.messages[1].holder == INSTANCE


async def test_few_results_are_kept(core: FakeCore, tmp_path: Path) -> None:
    """Only the last files are kept."""
    async with tools(core, tmp_path) as client:
        for _ in range(25):
            await core.deliver("é" * 29_000, sender="bob")
            await client.call_tool("recv", {})
    assert len(list((tmp_path / "results").iterdir())) == 20
