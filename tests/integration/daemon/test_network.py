"""The network of agents over the daemon's own sockets: rules, requests, and who may do what."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, running
from tests.integration.api.raw_http import request
from tests.integration.api.refusal_checks import Bad, audit_rows, check_refused

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="nothing can be sealed")
SETTINGS = {"sandbox": "bubblewrap", "egress": json.dumps({"allow": ["nix-cache"], "deny": ["evil.example"]})}


@needs_bubblewrap
async def test_whole_way_of_a_request(hive_home: Path) -> None:
    """An agent asks, nobody else decides, the operator approves, it is told, and the rule outlives a kill."""
    async with running(Daemon(hive_home, settings=SETTINGS)) as hive:
        for name in ("hm1nd", "ada"):
            config = {"network": "sealed", "allowed_hosts": ["Crates.IO"] if name == "ada" else []}
            await hive.ask("POST", "/v1/agents", {"name": name, "config": config, "start": False})
        first = await hive.ask("GET", "/v1/agents/ada/network")
        assert [(rule["effect"], rule["host"], rule["origin"]) for rule in first["rules"]] == [
            ("allow", "nix-cache", "settings"),
            ("deny", "evil.example", "settings"),
            ("allow", "crates.io", "agent.toml"),
        ]
        asked = await hive.ask(
            "POST", "/v1/network/requests", {"host": "GitHub.com", "why": "to clone", "hours": 2}, agent="ada"
        )
        requests = "/v1/network/requests"
        assert (await hive.ask("GET", requests, agent="hm1nd"))["requests"] == [asked]
        assert (await hive.ask("GET", "/v1/status"))["network_requests"] == 1
        approve = f"{requests}/{asked['id']}/approve"
        mistyped = {"name": "eve", "config": {"allowed_hosts": ["githbu"]}, "start": False}
        assert (await request(hive.host_socket, "POST", "/v1/agents", mistyped)).code == "bad_agent_toml"
        before = len(audit_rows(hive))
        await check_refused(hive, [Bad("POST", approve, 403, "manager_only", {})], "ada")
        await check_refused(hive, [Bad("POST", approve, 403, "not_decider", {})], "hm1nd")
        await check_refused(
            hive,
            [
                Bad("GET", "/v1/network", 404, "not_found"),
                Bad("GET", "/v1/agents/ada/network", 404, "not_found"),
                Bad("POST", "/v1/network/rules", 404, "not_found", {"effect": "open", "hours": 1}),
                Bad("POST", "/v1/agents/ada/network/close", 404, "not_found", {}),
                Bad("POST", requests, 409, "host_denied", {"host": "evil.example", "why": "x"}),
                Bad("POST", requests, 409, "host_allowed", {"host": "crates.io", "why": "x"}),
                Bad("POST", requests, 400, "bad_rule", {"host": "*.com", "why": "x"}),
                Bad("POST", requests, 400, "invalid_request", {"host": "x.example", "why": "x", "hours": 721}),
            ],
            "ada",
        )
        approved = await hive.ask("POST", approve, {"note": "go on"})
        assert approved["state"] == "approved"
        await hive.ask("POST", "/v1/agents/ada/network/rules", {"effect": "open", "hours": 1})
        done = [row for row in audit_rows(hive, before) if row[1].startswith("network")]
        assert [(action, subject) for _, action, subject, _ in done] == [
            ("network_decide", "ada"),
            ("network_rule", "ada"),
        ]
        [message] = (await hive.ask("GET", "/v1/inbox", agent="ada"))["messages"]
        assert message["sender"] == "system" and message["body"].endswith("> go on")

        await hive.kill()
        await hive.start()
        network = await hive.ask("GET", "/v1/agents/ada/network")
        assert [(rule["effect"], rule["host"]) for rule in network["rules"][3:]] == [
            ("allow", "github.com"),
            ("open", ""),
        ]
        assert network["rules"][3]["ends_at"] > network["rules"][3]["made_at"]
        assert (await hive.ask("GET", "/v1/status"))["open_networks"] == ["ada"]
        log = await hive.ask("GET", "/v1/agents/ada/network/log?lines=2")
        assert [line.split(" ")[1] for line in log["lines"]] == ["allowed", "opened"]
        closed = await hive.ask("POST", "/v1/agents/ada/network/close", {})
        assert closed["open"] is False
