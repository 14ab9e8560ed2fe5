"""A hive with people who are signed in, as the dashboard would speak for them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.real_daemon import Daemon, running
from tests.integration.api.raw_http import Reply, request

PASSWORD = "correct horse battery"


@dataclass
class HiveOfPeople:
    """A daemon, and the sessions of people by name."""

    daemon: Daemon
    sessions: dict[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.daemon.run_dir / "dashboard.sock"

    async def sign_up(self, name: str, role: str) -> None:
        """Make an account, and sign its person in with the link."""
        if role == "admin":
            made = await self.daemon.ask("POST", "/v1/set-up-links", {"name": name})
        else:
            made = await self.daemon.ask("POST", "/v1/people", {"name": name, "role": role})
        found = re.search(r"hl_[\w-]+", made["url"])
        assert found is not None
        token = found.group()
        reply = await request(self.socket, "POST", "/v1/set-up", {"token": token, "name": name, "password": PASSWORD})
        assert reply.status == 200, reply.body
        self.sessions[name] = reply.json["session"]

    async def ask(
        self, name: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Ask in the name of a person."""
        sent = {**(headers or {}), "Authorization": f"Bearer {self.sessions[name]}"}
        return await request(self.socket, method, path, body, sent)

    async def answer(self, name: str, method: str, path: str, body: object = None) -> Any:
        """Ask in the name of a person, and return what is answered if it is not refused."""
        reply = await self.ask(name, method, path, body)
        assert reply.status == 200, (path, reply.body)
        return reply.json


@asynccontextmanager
async def hive_of_people(home: Path, **roles: str) -> AsyncIterator[HiveOfPeople]:
    """A hive with a manager and people with these roles; there is a provider of models, and a budget for all."""
    settings = {
        "stop_timeout": 2,
        "relay": '{"providers": {"main": {"api": "openai", "base_url": "http://127.0.0.1:9/v1"}}}',
        "budget": '{"agents": {"money_per_day": 5}, "hive": {"money_total": 1000}}',
    }
    async with running(Daemon(home, settings=settings)) as daemon:
        await daemon.ask("POST", "/v1/agents", {"name": "hm1nd", "start": False})
        hive = HiveOfPeople(daemon)
        for name, role in roles.items():
            await hive.sign_up(name, role)
        yield hive
