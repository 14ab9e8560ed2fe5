"""Agents of a real daemon that call their models through the relay that the daemon runs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import tomli_w
from aiohttp import web

from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis.headers import presented_keys
from tests.helpers.fake_messages_api import Text, ToolUse
from tests.helpers.real_daemon import Daemon, running
from tests.integration.backends.agent_clis import CLAUDE, CODEX, GEMINI, OPENCODE, AgentCli, Answers, Api, each
from tests.unit.core.services.relay.fake_vendor import Received, fake_vendor

KEY = "sk-the-real-key-of-the-vendor-0123456789"
APIS: Mapping[str, VendorApi] = {"claude": "anthropic", "opencode": "anthropic", "codex": "openai", "gemini": "google"}
CLIS = Path(__file__).parents[3] / ".clis"
_CHUNK = 8 * 1024 * 1024

pytestmark = [
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="nothing can be sealed"),
    pytest.mark.timeout(300),
]


@asynccontextmanager
async def vendor_of(api: Api) -> AsyncIterator[str]:
    """A vendor that refuses any key but the real one, and answers with a loopback model."""
    async with aiohttp.ClientSession() as session:

        async def respond(request: web.Request, received: Received) -> web.StreamResponse:
            if set(presented_keys(received.headers)) - {""} != {KEY}:
                return web.json_response({"error": {"message": "wrong key"}}, status=401)
            url = api.url.removesuffix("/v1") + str(request.rel_url)
            kind = {"Content-Type": received.headers["content-type"]} if received.body else {}
            async with session.request(request.method, url, data=received.body, headers=kind) as answer:
                response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response

        async with fake_vendor(respond) as vendor:
            yield vendor.url


def relay_settings(home: Path, url: str, api: VendorApi) -> dict[str, Any]:
    """The settings of a hive with one provider, whose key is in a file."""
    keys = home / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    key = keys / "vendor-key"
    key.touch(mode=0o600)
    key.write_text(f"{KEY}\n")
    base = url + ("/v1" if api == "openai" else "")
    provider = {"api": api, "base_url": base, "keys": ["vendor-key"]}
    return {
        "sandbox": "bubblewrap",
        "relay": json.dumps({"credentials": str(keys), "providers": {"vendor": provider}}),
        "budget": json.dumps({"agents": {"money_per_day": 100}}),
    }


def with_program(cli: AgentCli, settings: dict[str, Any]) -> dict[str, str]:
    """Offer the directory of the CLI to agents, and return the variables that lead them to it."""
    passed = {"CLAUDE_CODE_MAX_RETRIES": "0"}
    if cli.program is not None:
        real = CLIS.resolve()
        settings["binds"] = json.dumps({"clis": {"path": str(real)}})
        passed[f"HIVE_{cli.name.upper()}"] = f"/binds/clis/{cli.program.relative_to(CLIS)}"
    settings["pass_environment"] = ",".join([*passed, "ANTHROPIC_API_KEY"])
    return passed


@pytest.mark.parametrize(
    ("cli", "network"),
    [
        *(pytest.param(*one.values, "sealed", id=one.id, marks=one.marks) for one in each(CLAUDE)),
        *(
            pytest.param(*one.values, network, id=f"{one.id}-{network}", marks=[*one.marks, pytest.mark.thorough])
            for network, ones in (("sealed", each(OPENCODE, CODEX, GEMINI)), ("host", each(CLAUDE)))
            for one in ones
        ),
    ],
)
async def test_a_sealed_agent_works_without_a_key(hive_home: Path, cli: AgentCli, network: str) -> None:
    """An agent does a turn with tools through the relay, and the vendor's key is nowhere in it or in the hive."""
    body = "four sheep and a goat"
    texts = [KEY.encode(), body.encode()]
    send, shell = ToolUse(cli.send, {"to": "operator", "body": body}), cli.shell("echo three horses")
    async with cli.serve(Answers([send], [shell], [Text("Done.")])) as served, vendor_of(served) as url:
        settings = relay_settings(hive_home, url, APIS[cli.name])
        # The operator's own key is for agents without a provider.
        environment = {**with_program(cli, settings), "ANTHROPIC_API_KEY": KEY}
        async with running(Daemon(hive_home, settings=settings, environment=environment)) as hive:
            config: dict[str, Any] = {"backend": cli.name, "model": cli.model, "provider": "vendor", "network": network}
            config |= {"binds": ["clis"]} if cli.program is not None else {}
            await hive.ask("POST", "/v1/agents", {"name": "ada", "config": config})
            await hive.agent_until("ada", lambda one: one["state"] == "idle", 60)
            await hive.ask("POST", "/v1/messages", {"to": "ada", "body": "how many animals are there?"})
            ada = await hive.agent_until("ada", lambda one: one["unacked"] == 0 and one["state"] == "idle", 120)
            assert body in json.dumps(await hive.ask("GET", "/v1/messages"))
            assert "three horses" in json.dumps(served.requests[-1])
            calls = hive.sql("SELECT provider, outcome, cost > 0, turn != '' FROM model_calls WHERE agent = 'ada'")
            assert len(calls) >= 3
            assert set(calls) == {("vendor", "done", 1, 1)}
            found = set[bytes]()
            for pid in processes_of(ada["pid"]):
                found |= texts_in_process(pid, texts)
            assert found == {body.encode()}, "the key is in a process of the agent, or nothing was searched"
        assert texts_in_files(hive_home / "s", texts) == {body.encode()}
        assert texts_in_files(hive_home / "log", texts) == set()


async def test_an_agent_with_the_hosts_network_has_a_key_of_its_own(hive_home: Path) -> None:
    """Without the key of the agent's harness nothing is got on its port, and a stopped agent has none."""
    settings = relay_settings(hive_home, "http://127.0.0.1:9", "anthropic")
    async with running(Daemon(hive_home, settings=settings)) as hive, aiohttp.ClientSession() as session:
        config = {"backend": "scripted", "provider": "vendor", "network": "host"}
        await hive.ask("POST", "/v1/agents", {"name": "ada", "config": config})
        ada = await hive.agent_until("ada", lambda one: one["state"] == "idle", 60)
        (port,) = {
            each.laddr.port for each in psutil.Process(ada["pid"]).net_connections() if each.status == "LISTEN"
        } - {ada["web_port"]}
        url = f"http://127.0.0.1:{port}/vendor/v1/messages"
        for headers in ({}, {"x-api-key": "hyperhive"}, {"authorization": "Bearer x"}):
            async with session.post(url, json={}, headers=headers) as answer:
                assert answer.status == 401
        await hive.ask("POST", "/v1/agents/ada/stop")
        async with asyncio.timeout(20):
            while not await is_closed(session, url):
                await asyncio.sleep(0.02)
        assert hive.sql("SELECT count(*) FROM model_calls") == [(0,)]


async def test_what_cannot_be_had_is_refused(hive_home: Path) -> None:
    """A spawn and a proposal with an unknown provider, or a budget above the ceiling, are refused by name."""
    settings = relay_settings(hive_home, "http://127.0.0.1:9", "anthropic")
    settings |= {"sandbox": "none", "unsealed": "true", "budget": json.dumps({"ceilings": {"money_per_day": 5}})}
    async with running(Daemon(hive_home, settings=settings)) as hive:
        config: dict[str, Any] = {"backend": "claude", "network": "host"}
        await hive.ask("POST", "/v1/agents", {"name": "bob", "config": config, "start": False})
        now = await hive.ask("GET", "/v1/agents/bob/configuration")
        for more, code in (
            ({"provider": "other"}, "unknown_provider"),
            ({"provider": "vendor", "features": ["web"]}, "feature_not_offered"),
            ({"provider": "vendor", "budget": {"money_per_day": 6}}, "above_ceiling"),
        ):
            asked = {"name": "ada", "config": {**config, **more}, "start": False}
            status, answer = await hive.request("POST", "/v1/agents", asked)
            assert (status, answer["error"]["code"]) == (400, code)
            content = base64.b64encode(tomli_w.dumps({**config, **more}).encode()).decode()
            edit = {"files": {**now["files"], "agent.toml": content}, "base": now["commit"], "note": "try"}
            status, answer = await hive.request("POST", "/v1/agents/bob/configuration", edit)
            assert (status, answer["error"]["code"]) == (400, code)


async def is_closed(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.post(url, json={}):
            return False
    except aiohttp.ClientConnectionError:
        return True


def processes_of(pid: int) -> Iterator[int]:
    """The processes of a sandbox: they share the namespace of process ids with the harness."""
    sandbox = os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - it is no path
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and os.readlink(entry / "ns/pid") == sandbox:  # noqa: PTH115
                yield int(entry.name)


def texts_in_process(pid: int, texts: list[bytes]) -> set[bytes]:
    """Those of the texts that are in the memory, the variables or the arguments of a process."""
    found = set()
    with suppress(OSError):
        seen = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
        found |= {text for text in texts if text in seen}
        areas = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
            for area in areas:
                place, mode, *_ = area.split()
                if not mode.startswith("rw"):
                    continue
                start, end = (int(each, 16) for each in place.split("-"))
                found |= texts_in_area(memory, start, end, texts)
    return found


def texts_in_area(memory: Any, start: int, end: int, texts: list[bytes]) -> set[bytes]:
    found, overlap = set(), max(map(len, texts))
    while start < end:
        try:
            memory.seek(start)
            data = memory.read(min(_CHUNK + overlap, end - start))
        except (OSError, ValueError, OverflowError):
            break
        if not data:
            break
        found |= {text for text in texts if text in data}
        start += _CHUNK
    return found


def texts_in_files(top: Path, texts: list[bytes]) -> set[bytes]:
    """Those of the texts that are in a file, or in any file below a directory."""
    files = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
    return {text for path in files for text in texts if text in path.read_bytes()}
