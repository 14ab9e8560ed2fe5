"""What the page reads beside the live flow: older turns, one turn's transcript, and what waits in the hive."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hive_agent.infra.json_text import encode
from hive_agent.interfaces import Controls
from hive_agent.web.hive import Hive
from hive_agent.web.refusal import PageError
from hive_agent.web.sessions import ask_hive
from hive_core.errors.faults import find_faults
from hive_core.protocol import PageSession, Query, TranscriptQuery, TurnsQuery

_PAGE_BYTES = 512 * 1024
"""Of transcript in one answer; at least one entry is in it."""
_INBOX = 50


class NoQuery(Query):
    """Nothing is asked."""


@dataclass(frozen=True)
class Reading:
    """Answers the page's questions. Each gets its query and who asks."""

    controls: Controls
    hive: Hive

    def now(self) -> bytes:
        """How things stand, in JSON."""
        return encode(self.controls.snapshot())

    async def state(self, _query: NoQuery, session: PageSession) -> web.Response:
        return _json(b'{"snapshot":%s,"user":%s}' % (self.now(), json.dumps(session.user).encode()))

    async def turns(self, query: TurnsQuery, _session: PageSession | None = None) -> web.Response:
        found = await self.controls.history(query.before, query.limit)
        return _json(b'{"turns":[%s]}' % b",".join(encode(turn) for turn in found))

    async def transcript(self, query: TranscriptQuery, _session: PageSession | None = None) -> web.Response:
        entries = await self.controls.transcript(query.turn)
        end = len(entries) if query.before is None else _index(entries, query.before)
        chosen: list[bytes] = []
        size = 0
        while end > 0 and len(chosen) < query.limit and size < _PAGE_BYTES:
            end -= 1
            chosen.append(encode(entries[end]))
            size += len(chosen[-1])
        more = b"true" if end > 0 else b"false"
        return _json(b'{"entries":[%s],"more":%s}' % (b",".join(reversed(chosen)), more))

    async def inbox(self, _query: NoQuery, _session: PageSession) -> web.Response:
        return _json((await ask_hive(self.hive.inbox(_INBOX))).model_dump_json().encode())

    async def open_items(self, _query: NoQuery, _session: PageSession) -> web.Response:
        return _json((await ask_hive(self.hive.open_items())).model_dump_json().encode())


def parse_query(model: Callable[..., Query], given: Mapping[str, str]) -> Query:
    """The query string as `model`. Raises PageError `invalid_request`."""
    try:
        return model(**given)
    except ValidationError as error:
        raise wrong_form(error) from None


def wrong_form(error: ValidationError) -> PageError:
    """What does not fit, by field; not with its value, which may be long, or secret."""
    faults = [f"{fault.place[:100] or 'it'}: {fault.reason}" for fault in find_faults(error, BaseModel, 5)]
    return PageError("invalid_request", f"the request is not understood: {'; '.join(faults)}", "reload the page")


def _index(entries: Sequence[Mapping[str, Any]], mark: str) -> int:
    for index, entry in enumerate(entries):
        if f"{entry.get('attempt')}.{entry.get('n')}" == mark:
            return index
    return len(entries)


def _json(content: bytes) -> web.Response:
    return web.Response(body=content, content_type="application/json")
