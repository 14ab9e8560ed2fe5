"""The pages about the whole hive in front of a real daemon."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from tests.helpers.dashboard import ServedDashboard, dashboard
from tests.helpers.real_daemon import Daemon

HOSTILE = "<img src=x onerror=alert(1)>\u202e"
SHOWN = "&lt;img src=x onerror=alert(1)&gt;\\u202e"


def _fill_ledger(daemon: Daemon) -> None:
    """Put a call of ann's, with a model whose name is hostile, into the ledger."""
    now = int(time.time() * 1000)
    day = now // 86_400_000
    with closing(sqlite3.connect(daemon.database)) as db:
        db.execute(
            "INSERT INTO model_sums (day, agent, provider, model, calls, input, cache_read, cache_write,"
            " cache_write_hour, output, reasoning, searches, cost, uncertain)"
            " VALUES (?, 'ann', 'main', ?, 1, 10, 0, 0, 0, 5, 0, 0, 2500000000, 0)",
            (day, HOSTILE),
        )
        db.execute(
            "INSERT INTO model_calls (call, instance, at, day, agent, turn, provider, requested, served, bytes,"
            " max_tokens, unbounded, fast, reserve, reserve_tokens, outcome, status, cost, flags)"
            " VALUES ('c1', 'i', ?, ?, 'ann', '', 'main', ?, '', 1, 1, 0, 0, 0, 0, 'failed', 529, 2500000000,"
            " 'reserve')",
            (now, day, HOSTILE),
        )
        db.commit()


async def _usage_is_shown_and_budgets_raised(hive: Daemon, web: ServedDashboard) -> None:
    _fill_ledger(hive)
    shown = await web.get("/usage")
    assert shown.status == 200
    assert SHOWN in shown.text
    assert HOSTILE not in shown.text
    assert "<rect" in shown.text
    assert "$2.50" in shown.text
    assert "of a day begin anew" in shown.text
    assert "all agents together" in shown.text
    calls = await web.get("/usage/agents/ann")
    assert SHOWN in calls.text
    assert "failed 529" in calls.text
    assert "as much as was reserved" in calls.text
    assert (await web.post("/usage/budget", {"whose": "all", "money": "7.5", "note": "more"})).status == 303
    assert "$1,007.50" in (await web.get("/usage")).text
    refused = await web.post("/usage/budget", {"whose": "all", "money": "a lot"})
    assert refused.status == 400
    assert "the amount is no number" in refused.text
    assert (await web.post("/usage/budget", {"whose": "nobody", "money": "1"})).status == 404


async def test_pages_show_what_the_hive_does(hive: Daemon) -> None:
    """Each page tells what the commands tell, and its forms have the effect of the commands."""
    async with dashboard(hive.host_socket) as web:
        await _usage_is_shown_and_budgets_raised(hive, web)
