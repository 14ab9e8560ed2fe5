"""`usage` and `budget` against the endpoints of the daemon: what they show and change, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click import unstyle
from click.testing import CliRunner, Result

from hive_core.api.routes.agents.spending import budget_changes, own_budget, spending_views
from hive_core.cli import main
from hive_core.cli.commands.outside import shown_spending
from hive_core.outside.models.budgets import DAY_MILLISECONDS
from hive_core.outside.models.settlement import UNCERTAIN
from hive_core.protocol.models import amounts
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.usage import TokenCounts
from tests.helpers.memory import MEMORY
from tests.unit.core.api.call_endpoint import asking, caller
from tests.unit.core.outside.spending_hive import SpendingHive, spending_hive


@dataclass(frozen=True)
class Cli:
    """The commands for a hive of ada and bob."""

    hive: SpendingHive
    socket: Path

    async def run(self, *arguments: str) -> Result:
        """Run a command."""
        line = ["--socket", str(self.socket), *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, line, prog_name="hive-c0re")

    async def out(self, *arguments: str) -> str:
        """The output of a command when all is well, without colours; notes on stderr are among it."""
        result = await self.run(*arguments)
        assert result.exit_code == 0, result.output
        return unstyle(result.output)


@pytest.fixture
async def cli(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cli]:
    """A hive without limits, on a terminal of 80 columns."""
    monkeypatch.setattr(shown_spending, "width", lambda: 80)
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        async with spending_hive() as hive:
            endpoints = [*spending_views(hive.spending), *budget_changes(hive.spending)]
            async with asking(endpoints, caller("operator", "operator"), Path(directory)):
                yield Cli(hive, Path(directory) / "s")


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


async def test_usage_by_day_model_and_agent(cli: Cli) -> None:
    """Sums are shown with their total, the date of the prices, and how many calls are uncertain; a narrow terminal
    has room for them.
    """
    await cli.hive.spend("ada")
    cli.hive.money.now += DAY_MILLISECONDS
    await cli.hive.spend("bob")
    request = cli.hive.money.request("bob", model="m" * 100)
    await cli.hive.money.reserve(request)
    await cli.hive.money.settle(
        request, TokenCounts(input=2_000_000, cache_read=40_000, output=12), "broken", complete=False
    )
    out = await cli.out("usage")
    assert rows(out)[0] == ["DAY", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST", "UNCERTAIN"]
    assert rows(out)[1:4] == [
        ["2024-10-04", "1", "1000", "0", "1000", "$0.0030"],
        ["2024-10-05", "2", "2.0M", "40.0k", "1034", "$2.04", "1"],
        ["total", "3", "2.0M", "40.0k", "2034", "$2.05", "1"],
    ]
    assert "prices are those of 20" in out
    assert 'the cost of 1 call is uncertain: "hive-c0re usage AGENT --calls" says why' in out
    assert max(map(len, out.splitlines()[:4])) <= 80
    models = await cli.out("usage", "--by", "model")
    assert rows(models)[1][0] == "m" * 33 + "…"
    assert max(map(len, models.splitlines()[:4])) <= 80
    agents = await cli.out("usage", "--by", "agent", "-n", "1")
    assert [row[0] for row in rows(agents)[:3]] == ["AGENT", "bob", "total"]
    assert "1 of 2 are shown, the dearest" in agents
    assert rows(await cli.out("usage", "ada", "--since", "2024-10-04"))[1][1] == "1"
    assert "there are no calls of ada since then" in await cli.out("usage", "ada", "--since", "2024-10-05")
    assert json.loads(await cli.out("usage", "--json"))["total"]["calls"] == 3


async def test_since_is_a_day_or_a_number_of_days(cli: Cli) -> None:
    """A week has today in it; what is no day is wrong usage, before the daemon is asked."""
    cli.hive.money.now = int(datetime.now(UTC).timestamp() * 1_000)
    await cli.hive.spend()
    for since in ("today", "1d", "7d", "2000-01-01"):
        assert "total" in await cli.out("usage", "--since", since)
    for wrong in ("yesterday", "7", "2026-13-01", "d"):
        result = await cli.run("usage", "--since", wrong)
        assert (result.exit_code, "write 2026-11-01, 7d or today" in result.output) == (2, True)


async def test_calls_with_their_flags(cli: Cli) -> None:
    """The newest calls are shown with outcome, cost and flags, whose meaning is said below; older ones by --before."""
    assert await cli.hive.refuse(status=403)
    request = await cli.hive.reserve()
    assert request is not None
    await cli.hive.money.settle(request, None, "left")
    await cli.hive.reserve()
    out = await cli.out("usage", "ada", "--calls")
    assert rows(out)[0] == ["ID", "AT", "MODEL", "INPUT", "OUTPUT", "COST", "TIME", "OUTCOME", "FLAGS"]
    assert "under way" in out.splitlines()[1]
    assert rows(out)[2][-2:] == ["left", "reserve"]
    assert "failed 403" in out.splitlines()[3]
    assert "reserve: the cost is as much as was reserved" in out
    assert "under way: the cost is what is reserved" in out
    assert "estimated:" not in out
    assert max(map(len, out.splitlines()[:4])) <= 80
    assert len(rows(await cli.out("usage", "ada", "--calls", "--before", "2"))) == 3
    assert [
        call["id"] for call in json.loads(await cli.out("usage", "ada", "--calls", "-n", "2", "--json"))["calls"]
    ] == [3, 2]
    for wrong in (("usage", "--calls"), ("usage", "ada", "--calls", "--by", "day"), ("usage", "--before", "3")):
        assert (await cli.run(*wrong)).exit_code == 2


def test_each_flag_is_explained() -> None:
    """Every flag of the ledger has a sentence in the table and in the help of the command."""
    assert set(amounts.FLAGS) == UNCERTAIN | {"over_reserve"}
    text = CliRunner().invoke(main, ["usage", "--help"], prog_name="hive-c0re").output
    assert [flag for flag in amounts.FLAGS if flag not in text] == []


async def test_a_budget(cli: Cli) -> None:
    """Each limit is shown with what is spent, reserved and left, the hive's too; without an agent those of all."""
    cli.hive.money.limits["ada"] = SpendingLimits(money_per_day=0.01, calls_total=10, tokens_per_day=2_000_000)
    cli.hive.money.hive_limits.money_total = 100
    await cli.hive.spend()
    await cli.hive.reserve()
    out = await cli.out("budget", "ada")
    assert rows(out)[0] == ["BUDGET", "LIMIT", "SPENT", "RESERVED", "LEFT", "USED"]
    assert [" ".join(row) for row in rows(out)[1:5]] == [
        "ada $0.0100 a day $0.0030 $0.0030 $0.0040 60%",
        "ada 2.0M tokens a day 2000 2000 2.0M 0%",
        "ada 10 calls in all 2 8 20%",
        "all $100.00 in all $0.0030 $0.0030 $99.99 0%",
    ]
    assert "ada has spent $0.0030 today, $0.0030 in all" in out
    assert "limits of a day begin anew at 2024-10-0" in out
    assert max(map(len, out.splitlines()[:5])) <= 80
    every = await cli.out("budget")
    assert [row[0] for row in rows(every)[1:5]] == ["all", "ada", "ada", "ada"]
    assert await cli.out("budget", "all") == every
    assert "bob has spent $0.00 today, $0.00 in all, without a limit of its own" in await cli.out("budget", "bob")
    assert json.loads(await cli.out("budget", "ada", "--json"))["limits"][0]["spent"] == 0.003


async def test_adding_money(cli: Cli) -> None:
    """Money is added for today and in all; what still keeps the agent from a call is told with its command."""
    cli.hive.money.limits["ada"] = SpendingLimits(money_per_day=0.003)
    cli.hive.money.hive_limits.money_per_day = 0.003
    assert await cli.hive.spend() and not await cli.hive.spend()
    out = await cli.out("budget", "ada", "--add", "5", "--note", "the report")
    assert out.startswith("ada may spend $5.00 more, today and in all\n")
    assert rows(out)[1] == ["BUDGET", "LIMIT", "ADDED", "SPENT", "RESERVED", "LEFT", "USED"]
    assert " ".join(rows(out)[2]) == "ada $5.00 a day $5.00 $0.0030 $5.00 0%"
    assert '"hive-c0re budget all --add DOLLARS" raises it' in out
    assert "raises it" not in await cli.out("budget", "all", "--add", "0.5")
    assert await cli.hive.spend()
    assert [row[3] for row in await cli.hive.audited()] == [
        '{"money": 5.0, "note": "the report"}',
        '{"money": 0.5, "note": ""}',
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("budget", "--add", "5"), 'Name the agent that gets the money, or "all"'),
        (("budget", "ada", "--note", "x"), "--note is for --add"),
        (("budget", "ada", "--add", "0"), "0.0 is not in the range"),
        (("budget", "ada", "--add", "-5"), "-5"),
        (("budget", "ada", "--add", "nan"), "nan is no amount of money"),
        (("budget", "ada", "--add", "5e9"), "is not in the range"),
        (("usage", "ada", "-n", "0"), "0 is not in the range"),
    ],
)
async def test_wrong_usage(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    """A line that cannot be meant is refused with what to write instead, and changes nothing."""
    cli.hive.money.limits["ada"] = SpendingLimits(money_per_day=1)
    result = await cli.run(*arguments)
    assert result.exit_code in (1, 2)
    assert words in result.output
    assert await cli.hive.audited() == []


async def test_refusals(cli: Cli) -> None:
    """An unknown agent, a limit that is not there, and a hive without providers are refused with what to do."""
    for arguments in (
        ("budget", "eve"),
        ("usage", "eve"),
        ("usage", "eve", "--calls"),
        ("budget", "eve", "--add", "1"),
    ):
        result = await cli.run(*arguments)
        assert (result.exit_code, "there is no agent" in result.output) == (1, True)
    result = await cli.run("budget", "ada", "--add", "1")
    assert "ada has no limit of money that could be raised" in result.output
    assert "money_per_day and money_total of [budget] in its agent.toml set one" in result.output


async def test_a_hive_without_providers(cli: Cli) -> None:
    """Commands without a ledger say so, and which setting makes one."""
    cli.hive.restart(has_providers=False)
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        async with asking(spending_views(cli.hive.spending), caller("operator", "operator"), Path(directory)):
            other = Cli(cli.hive, Path(directory) / "s")
            for command in ("usage", "budget"):
                result = await other.run(command)
                assert result.exit_code == 1
                assert "there is no ledger: the settings have no provider of models" in result.output
                assert "relay.providers" in result.output


async def test_an_agent_asks_for_its_own_budget(cli: Cli) -> None:
    """On an agent's socket the path that shows all budgets to operators shows only its own."""
    cli.hive.money.limits = {name: SpendingLimits(calls_total=1) for name in ("ada", "bob")}
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        async with asking(own_budget(cli.hive.spending), caller("agent", "bob"), Path(directory)) as agent:
            reply = await agent.ask("GET", "/v1/budget")
    assert [limit["whose"] for limit in reply.json["limits"]] == ["bob"]
