"""An agent that sends as fast as it can."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from tests.helpers.real_daemon import Json

SENDERS = 30
"""Requests under way at a time; an agent may have 32 connections."""


async def flood(core_socket: Path, requests: Sequence[tuple[str, Json]], seconds: float) -> Counter[str]:
    """Repeat the requests, as (path, body), over many connections; returns how often each code was answered."""
    answered: Counter[str] = Counter()
    end = time.monotonic() + seconds
    connector = aiohttp.UnixConnector(str(core_socket), limit=SENDERS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(first: int) -> None:
            number = first
            while time.monotonic() < end:
                path, body = requests[number % len(requests)]
                number += 1
                async with session.post(f"http://hive{path}", json=body) as response:
                    answer = json.loads(await response.read())
                answered["ok" if response.status == 200 else answer["error"]["code"]] += 1

        await asyncio.gather(*(send(number) for number in range(SENDERS)))
    return answered
