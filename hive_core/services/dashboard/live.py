"""Live parts of pages: pieces of HTML that are made anew when something happened, and sent to windows that show them.

Windows of one session that show the same part share its making.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.rendering import Html
from hive_core.services.dashboard.visit import Visit

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 0.1
"""Between two makings of a part: what happens meanwhile is shown by the second."""
_SETTLE_SECONDS = 5.0
"""A part is made anew at least so often, for what changes without an event, such as use of memory."""
_RETRY_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 20.0
MOST_PARTS = 128
_ENDED: tuple[str, dict[str, object]] = ("ended", {})
_RESTART: tuple[str, dict[str, object]] = ("connection", {"problem": "The dashboard is being restarted"})

Arguments = Mapping[str, str]


class Pieces(dict[str, Html]):
    """A part that consists of elements in their order, each by its `id`. Windows get those that have changed."""

    @property
    def html(self) -> Html:
        """All of them, for the page."""
        return Html("".join(self.values()))


@dataclass(frozen=True)
class LivePart:
    """A part of a page. `render` makes its HTML; `is_changed_by` tells if an event may have changed it."""

    name: str
    render: Callable[[Visit, Arguments], Awaitable[Html | Pieces]]
    is_changed_by: Callable[[HiveEvent, Arguments], bool]
    settles: bool = False
    """True if it is made anew now and then without an event, too."""


@dataclass(eq=False)
class _Shown:
    """One part as it is shown to a session, with the windows that show it."""

    part: LivePart
    arguments: Arguments
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    windows: set[asyncio.Event] = field(default_factory=set)
    html: Html | Pieces | None = None
    task: asyncio.Task[None] | None = None


class LiveSession:
    """All that the windows of one session show, kept up to date by one stream of events."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._shown: dict[str, _Shown] = {}
        self._task = asyncio.create_task(self._follow())
        self._signals: set[asyncio.Event] = set()
        self.problem: HiveError | None = None
        """The reason for which the shown state may not be that of now."""
        self.has_ended = False
        """True if the person is signed in no more."""

    @contextmanager
    def window(self, wanted: Mapping[str, tuple[LivePart, Arguments]]) -> Iterator[tuple[asyncio.Event, list[_Shown]]]:
        """Keep these parts, by their keys, up to date for one window, which is told of changes by an event."""
        signal = asyncio.Event()
        self._signals.add(signal)
        shown = []
        for key, (part, arguments) in wanted.items():
            one = self._shown.get(key)
            if one is None:
                one = self._shown[key] = _Shown(part, arguments)
                one.task = asyncio.create_task(self._keep(one))
            one.windows.add(signal)
            shown.append(one)
        try:
            yield signal, shown
        finally:
            self._signals.discard(signal)
            for key in wanted:
                one = self._shown[key]
                one.windows.discard(signal)
                if not one.windows and one.task is not None:
                    one.task.cancel()
                    del self._shown[key]

    @property
    def windows(self) -> int:
        """The number of windows."""
        return len(self._signals)

    @property
    def is_unused(self) -> bool:
        """True if no window is left."""
        return not self._signals

    def close(self) -> None:
        """End all that it does."""
        self._task.cancel()
        for one in self._shown.values():
            if one.task is not None:
                one.task.cancel()

    async def _follow(self) -> None:
        after = ""
        while True:
            try:
                async with self._visit.hive.stream(path_of("events"), after=after) as events:
                    self._report(None)
                    for one in self._shown.values():  # What happened before is not known.
                        one.changed.set()
                    async for event in events:
                        after = event.id
                        for one in self._shown.values():
                            if one.part.is_changed_by(event, one.arguments):
                                one.changed.set()
            except HiveError as error:
                if error.status == HTTPStatus.UNAUTHORIZED:
                    self.has_ended = True
                    self._report(error)
                    return
            self._report(HiveError("no_daemon", "the daemon of this hive does not answer", status=503))
            await asyncio.sleep(_RETRY_SECONDS)

    def wake(self) -> None:
        """Have every window look at what there is."""
        for signal in self._signals:
            signal.set()

    def _report(self, problem: HiveError | None) -> None:
        self.problem = problem
        self.wake()

    async def _keep(self, one: _Shown) -> None:
        while True:
            one.changed.clear()
            try:
                html = await one.part.render(self._visit, one.arguments)
            except HiveError as error:
                # The page says that it is not connected, or the part's own page says that there is nothing any more.
                log.debug("a part of a page cannot be made", part=one.part.name, error=error.message)
            else:
                if html != one.html:
                    one.html = html
                    for signal in one.windows:
                        signal.set()
            await asyncio.sleep(_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_SECONDS if one.part.settles else None):
                    await one.changed.wait()


class LiveParts:
    """The live parts of all pages, and the sessions that show some of them."""

    def __init__(self, parts: list[LivePart]) -> None:
        self._parts = {part.name: part for part in parts}
        self._sessions: dict[str, LiveSession] = {}
        self._is_stopping = False

    @property
    def sessions(self) -> int:
        """The number of sessions that show some part."""
        return len(self._sessions)

    @property
    def windows(self) -> int:
        """The number of windows that show some part."""
        return sum(session.windows for session in self._sessions.values())

    async def stream(self, visit: Visit) -> web.StreamResponse:
        """Send the parts that a window names, now and whenever they change, until it is closed.

        Each field `part` of the query is the name of a part, and may go on with arguments: `agent?name=ada`.
        """
        wanted = self._wanted(visit)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(visit.request)
        session = self._sessions.get(visit.credential)
        if session is None:
            session = self._sessions[visit.credential] = LiveSession(visit)
        sent: dict[str, Html | Pieces] = {}
        told: object = ()
        try:
            with session.window(wanted) as (signal, shown), suppress(ConnectionError):
                while not (self._is_stopping or session.has_ended):
                    if session.problem is not told:
                        told = session.problem
                        why = session.problem.message if session.problem else None
                        await response.write(_event("connection", {"problem": why}))
                    for key, one in zip(wanted, shown, strict=True):
                        if one.html is not None and one.html is not (before := sent.get(key)):
                            sent[key] = one.html
                            await response.write(changes_of(key, before, one.html))
                    try:
                        async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                            await signal.wait()
                    except TimeoutError:
                        await response.write(_event("alive", {}))
                    signal.clear()
                await response.write(_event(*_ENDED if session.has_ended else _RESTART))
        finally:
            if session.has_ended or session.is_unused:
                session.close()
                if self._sessions.get(visit.credential) is session:
                    del self._sessions[visit.credential]
        return response

    async def stop(self, _: web.Application) -> None:
        """Tell all windows that the dashboard stops, and end their streams: they come back by themselves."""
        self._is_stopping = True
        for session in self._sessions.values():
            session.wake()

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            session.close()

    def _wanted(self, visit: Visit) -> dict[str, tuple[LivePart, Arguments]]:
        keys = visit.request.query.getall("part", [])
        if not keys or len(keys) > MOST_PARTS:
            raise HiveError("bad_parts", f"a window shows between 1 and {MOST_PARTS} live parts", status=400)
        found: dict[str, tuple[LivePart, Arguments]] = {}
        for key in keys:
            name, _, query = key.partition("?")
            part = self._parts.get(name)
            if part is None:
                raise HiveError("not_found", "there is no such live part", status=404)
            fields = [one.partition("=") for one in query.split("&") if one]
            found[key] = (part, {field: value for field, _, value in fields})
        return found


def changes_of(key: str, before: Html | Pieces | None, now: Html | Pieces) -> bytes:
    """Return the event that makes a part of a window, which shows it as it was `before`, that of now."""
    if not isinstance(now, Pieces):
        return _event("part", {"part": key, "html": now})
    known = before if isinstance(before, Pieces) else {}
    changed = {identity: html for identity, html in now.items() if known.get(identity) != html}
    return _event("pieces", {"part": key, "order": list(now), "changed": changed})


def _event(kind: str, data: Mapping[str, object]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
