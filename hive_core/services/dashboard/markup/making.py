"""The dashboard's end of the worker: HTML of texts, or the texts themselves where that is not made in time."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import sys
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import structlog
from aiohttp import web

from hive_core.services.dashboard.markup.worker import MOST_BYTES
from hive_core.services.dashboard.rendering import Html
from hive_core.text import visible

log = structlog.get_logger(__name__)

MOST_CHARACTERS = 200_000
"""A longer text is shown as it is."""
_COMMAND = (sys.executable, "-P", "-m", "hive_core.services.dashboard.markup.worker")
_ANSWER_SECONDS = 6.0
"""Beyond the worker's own limit of processor time: it has stopped, or the machine is very busy."""
_WAIT_SECONDS = 4.0
"""Time for which a text waits for its turn."""
_IDLE_SECONDS = 300.0
_PAUSE_SECONDS = 10.0
"""Time between two starts of a worker that cannot be started."""
_KEPT_BYTES = 16 * 1024 * 1024

Kind = Literal["markdown", "code", "lines"]


class Markup:
    """Makes HTML of texts. Never raises: what cannot be made in time is shown as plain text."""

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        self._command = command
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._may_start_at = 0.0
        self._kept: OrderedDict[bytes, list[str]] = OrderedDict()
        self._kept_bytes = 0

    async def markdown(self, text: str) -> Html:
        """Return a text in Markdown."""
        return Html("".join(await self._made("markdown", text) or [f'<p class="plain">{_plain(text)}</p>']))

    async def code(self, text: str, language: str) -> Html:
        """Return code in a language that is known by name, for a `<code>` within a `<pre>`."""
        return Html("".join(await self._made("code", text, language) or [_plain(text)]))

    async def lines(self, text: str, path: str) -> list[Html]:
        """Return each line of the file `path`: as many as `text.split("\\n")` has."""
        made = await self._made("lines", text, path)
        return [Html(line) for line in made or _plain(text).split("\n")]

    async def close(self) -> None:
        """End the worker."""
        async with self._lock:
            await self._end()

    async def _made(self, kind: Kind, text: str, hint: str = "") -> list[str] | None:
        if len(text) > MOST_CHARACTERS:
            return None
        request = json.dumps({"do": kind, "text": text, "hint": hint}).encode() + b"\n"
        key = hashlib.sha256(request).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key] or None
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._lock.acquire()
        except TimeoutError:
            return None
        try:
            made = await self._asked(request)
        finally:
            self._lock.release()
        # What cannot be made is kept, too: else it would take its time again with each look at it.
        if made is not None:
            self._keep(key, made)
        return made or None

    async def _asked(self, request: bytes) -> list[str] | None:
        """Return the worker's answer: nothing if it refuses, None if it could not be asked."""
        process = await self._started()
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                process.stdin.write(request)
                await process.stdin.drain()
                answer = json.loads(await process.stdout.readline())
        except (TimeoutError, OSError, ValueError) as error:
            log.warning("the process that formats texts is started anew", error=type(error).__name__)
            await self._end()
            return []
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next text.
            process.kill()
            self._process = None
            raise
        if "html" not in answer:
            log.info("a text is shown without its format", reason=answer.get("problem"))
            return []
        found = answer["html"]
        return found if isinstance(found, list) else [found]

    async def _started(self) -> asyncio.subprocess.Process | None:
        loop = asyncio.get_running_loop()
        if self._idle is not None:
            self._idle.cancel()
        self._idle = loop.call_later(_IDLE_SECONDS, self._end_idle)
        if self._process is not None and self._process.returncode is None:
            return self._process
        if loop.time() < self._may_start_at:
            return None
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=8 * MOST_BYTES,
            )
        except OSError as error:
            log.error("texts are shown without their format: the process for it cannot be started", error=str(error))
            self._may_start_at = loop.time() + _PAUSE_SECONDS
            self._process = None
        return self._process

    def _end_idle(self) -> None:
        if self._process is not None and not self._lock.locked() and self._process.stdin is not None:
            self._process.stdin.close()

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _keep(self, key: bytes, made: list[str]) -> None:
        self._kept[key] = made
        self._kept_bytes += sum(map(len, made)) + 200
        while self._kept_bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= sum(map(len, oldest)) + 200


MARKUP = web.AppKey("MARKUP", Markup)
"""The application's own, for `visit.request.app[MARKUP]`."""


def _plain(text: str) -> str:
    return html.escape(visible(text))
