"""`net` against the endpoints of the daemon: what it shows, what it changes, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click import unstyle
from click.testing import CliRunner, Result

from hive_core.api.routes.agents.network import host_decisions, network_changes, network_views
from hive_core.cli import main
from hive_core.protocol.network.settings import Egress
from tests.helpers.memory import MEMORY
from tests.unit.core.api.call_endpoint import asking, caller
from tests.unit.core.outside.network.network_hive import EVERYONE, NetworkHive


@dataclass(frozen=True)
class Net:
    """`hive-c0re net` for a hive of ada, bob and the manager."""

    hive: NetworkHive
    socket: Path

    async def run(self, *arguments: str) -> Result:
        """Run `net` with arguments."""
        line = ["--socket", str(self.socket), "net", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, line, prog_name="hive-c0re")

    async def out(self, *arguments: str) -> str:
        """What `net` prints when all is well, without colours."""
        result = await self.run(*arguments)
        assert result.exit_code == 0, result.output
        return unstyle(result.output)


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    """A hive whose settings allow a set, deny a host and offer a service."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        path = Path(directory)
        hive = NetworkHive(path, Egress(allow=["nix-cache"], deny=["evil.example"]))
        hive.services = {"db": "127.0.0.1:5432"}
        await hive.open()
        endpoints = [
            *network_views(hive.network),
            *network_changes(hive.network),
            *host_decisions(hive.network, manager_only=False),
        ]
        async with asking(endpoints, caller("operator", "operator"), path):
            yield Net(hive, path / "s")
        await hive.close()


async def test_rules_of_an_agent(net: Net) -> None:
    """Rules are shown with where they are from, when they end and why; what was refused with the missing rule."""
    await net.hive.add("ada", allowed_hosts=["github.com:22"])
    said = await net.out("ada", "allow", "Crates.IO", "--for", "90m", "--note", "a build")
    assert said.startswith("ada may reach Crates.IO, until ")
    await net.hive.refuse("sneaky.example", count=12, port=8443, missing="sneaky.example:8443", reason="port")
    await net.hive.carry(connections=3, sent=2_048)
    lines = (await net.out("ada")).splitlines()
    assert lines[0] == "ada: 3 connections now, today 2.0 KiB sent, 0 bytes received"
    found = {" ".join(line.split()[:3]): line for line in lines}
    assert "allow nix-cache settings" in found
    assert "deny evil.example settings" in found
    assert "allow github.com:22 agent.toml" in found
    made = found["allow crates.io operator:operator"]
    assert made.endswith('"a build"') and "UTC" in made
    refused = found['"sneaky.example:8443" 12 just']
    assert refused.endswith("no rule allows the port; missing: sneaky.example:8443")


async def test_services_of_an_agent(net: Net) -> None:
    """Services are shown with their addresses in the agent and on the host, and why one does not answer."""
    await net.hive.add("ada", services=["db", "old"])
    await net.hive.refuse("service:db", port=0, reason="service_down", missing="", detail="it is away")
    lines = [" ".join(line.split()) for line in (await net.out("ada")).splitlines()]
    assert "SERVICE IN THE AGENT ON THE HOST" in lines
    assert "db 127.0.0.1:3200 127.0.0.1:5432" in lines
    assert "old 127.0.0.1:3201 not offered any more" in lines
    [down] = [line for line in lines if line.startswith('"service:db" 1 ')]
    assert down.endswith('the service of the host does not answer; "it is away"')
    assert 'refused "service:db": the service of the host does not answer' in await net.out("ada", "log")


async def test_overview(net: Net) -> None:
    """Without an agent all are shown, with the rules for all, and the requests with the commands to decide on them."""
    asked = await net.hive.ask("crates.io", why="to build")
    await net.out("all", "allow", "npm", "--note", "everybody builds")
    out = await net.out()
    assert {line.split()[0] for line in out.splitlines() if "sealed" in line} == {"ada", "bob", "hm1nd"}
    assert "allow  npm" in out and '"everybody builds"' in out
    assert f"request {asked.id} of ada: crates.io for 24 h" in out
    assert f'  "to build"\n  hive-c0re net ada approve {asked.id}, or: hive-c0re net ada deny-request' in out
    assert json.loads(await net.out("--json"))["requests"][0]["id"] == asked.id
    assert await net.out("all") == await net.out()


async def test_open_and_close(net: Net) -> None:
    """What is open is shown in red until it ends; `close` ends it, and says what is open all the same."""
    assert "ada may reach EVERYTHING that is public, until 20" in await net.out("ada", "open")
    for arguments in ((), ("ada",)):
        result = await net.run(*arguments)
        assert "OPEN: ada reaches everything that is public, until " in result.output
    await net.hive.make("open", agent=EVERYONE, hours=1)
    said = await net.out("ada", "close")
    assert "OPEN: ada reaches everything" in said
    assert 'end that with "hive-c0re net all close"' in said
    assert net.hive.closed == ["ada"]
    assert await net.out("all", "close") == "all agents reach only what rules allow\n"
    assert await net.out("bob", "close") == "bob reaches only what rules allow\n"
    assert net.hive.network.open_agents() == []


async def test_deny_and_remove(net: Net) -> None:
    """A denied host is denied until the rule is removed."""
    await net.out("ada", "deny", "cache.nixos.org")
    assert net.hive.denied() == ["evil.example", "cache.nixos.org"]
    assert await net.out("ada", "remove", "cache.nixos.org") == "the rule of ada for cache.nixos.org is removed\n"
    result = await net.run("ada", "remove", "cache.nixos.org")
    assert result.exit_code == 1
    assert "no rule for cache.nixos.org was made for ada" in result.output


async def test_decisions(net: Net) -> None:
    """A request is approved or denied by its number, and only under the name of its agent."""
    first, second = await net.hive.ask("crates.io"), await net.hive.ask("npm")
    assert "bob has no open request 1" in (await net.run("bob", "approve", str(first.id))).output
    assert await net.out("ada", "approve", str(first.id), "--for", "2h") == "ada may reach crates.io for 2 h\n"
    assert (
        await net.out("ada", "deny-request", str(second.id), "--note", "no")
        == f"request {second.id} of ada is denied\n"
    )
    assert "crates.io" in net.hive.allowed() and "npm" not in net.hive.allowed()
    assert "> no" in (await net.hive.told("ada"))[-1]


async def test_log(net: Net) -> None:
    """Lines of the log are one line each, whatever an agent has put into them."""
    await net.hive.refuse("a\x1b]0;x\x07\nb", detail="\u202e")
    out = await net.out("ada", "log")
    assert out.count("\n") == 1 and "\x1b" not in out and "\u202e" not in out
    assert 'refused "a' in out
    assert "Name one agent" in (await net.run("all", "log")).output
    assert json.loads(await net.out("ada", "log", "--json"))["lines"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("log",), 2, "Name the agent first: hive-c0re net AGENT log."),
        (("nobody",), 1, "there is no agent"),
        (("ada", "alow", "x.example"), 2, "Did you mean 'allow'?"),
        (("ada", "allow", "x.example", "--for", "soon", "--note", "x"), 2, "write 90m, 2h or 7d"),
        (("ada", "allow", "x.example"), 2, "A reason is needed"),
        (("ada", "allow", "githbu", "--note", "x"), 1, "did you mean 'github'?"),
        (("ada", "allow", "evil.example", "--note", "x"), 1, "egress.deny"),
    ],
)
async def test_mistakes(net: Net, arguments: tuple[str, ...], code: int, said: str) -> None:
    """A mistake is refused with what to write instead, and nothing is changed."""
    result = await net.run(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert net.hive.changed == []


async def test_completion(net: Net) -> None:
    """Completion offers agents and `all`, hosts that were refused, hosts of rules, and the ids of requests."""
    asked = await net.hive.ask("npm")
    await net.hive.refuse("sneaky.example")
    await net.hive.make("allow", "one.example")

    async def complete(*words: str) -> set[str]:
        line = " ".join(["hive-c0re", "--socket", str(net.socket), "net", *words])
        env = {"_HIVE_C0RE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        result = await asyncio.to_thread(CliRunner().invoke, main, [], prog_name="hive-c0re", env=env)
        return {each.split(",", 1)[1] for each in result.output.split()}

    assert await complete("ada", "allow", "sn") == {"sneaky.example"}
    assert await complete("ada", "remove", "o") == {"one.example"}
    assert await complete("ada", "approve", str(asked.id)) == {str(asked.id)}
    assert "all" in await complete("al")
    assert await complete("ada", "deny-") == {"deny-request"}
