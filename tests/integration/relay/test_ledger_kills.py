"""The ledger after kills of the daemon in the middle of many calls."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from tests.integration.relay import ledger_program

COST, RESERVE = 200_000, 3_000_000
"""Of each call, in nanodollars."""


async def run_until_killed(path: Path, instance: str, lines: int) -> list[list[str]]:
    """Run the program, kill it after so many lines, and return all that it has printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", ledger_program.__name__, str(path), instance),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    told = []
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            if line.endswith(b"\n"):
                told.append(line.decode().split())
            if len(told) == lines:
                process.kill()
        await process.wait()
    return told


async def test_kills_lose_no_money(tmp_path: Path) -> None:
    """Each granted call is in the ledger after each kill of the process, each settled one has its cost, and all sums
    are those of the rows; what was under way is counted by the next process.
    """
    path, told = tmp_path / "hive.sqlite", list[list[str]]()
    for number, lines in enumerate((7, 60, 333)):
        told += await run_until_killed(path, f"relay-{number}", lines)
        with closing(sqlite3.connect(path)) as db:
            rows = {
                call: (outcome, cost)
                for call, outcome, cost in db.execute("SELECT call, outcome, cost FROM model_calls")
            }
            spent, reserved, calls = db.execute(
                "SELECT money, open_money, calls FROM model_spending WHERE whose = '*' AND day = -1"
            ).fetchone()
            summed = db.execute("SELECT coalesce(sum(cost), 0), coalesce(sum(calls), 0) FROM model_sums").fetchone()
        assert {call for what, call in told if what == "reserved"} <= rows.keys()
        assert all(rows[call] == ("done", COST) for what, call in told if what == "settled")
        under_way = [call for call, (outcome, _) in rows.items() if outcome is None]
        assert 0 < len(under_way) <= ledger_program.AGENTS + 1
        assert (spent, reserved, calls) == (sum(cost for _, cost in rows.values()), RESERVE * len(under_way), len(rows))
        assert summed == (spent, len(rows) - len(under_way))
        lost = [cost for outcome, cost in rows.values() if outcome == "lost"]
        assert set(lost) <= {RESERVE}
        assert (len(lost) > 0) == (number > 0)
        assert all(call.startswith(f"relay-{number}-") for call in under_way)
