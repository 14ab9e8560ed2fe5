"""The daemon's event stream: reading it, and going on with it after the daemon was restarted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hive_core.cli.client import Client
from hive_core.cli.errors import Failure

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class Item:
    """One item of a stream. `data` is empty if it only names the id to go on from."""

    last_id: str | None
    data: str


def parse(lines: Iterable[bytes]) -> Iterator[Item]:
    """Items of a `text/event-stream`; comments and unknown fields are skipped, a half item at the end is dropped."""
    last_id: str | None = None
    data: list[str] = []
    changed = False
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data or changed:
                yield Item(last_id, "\n".join(data))
            data, changed = [], False
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id, changed = value, True


def follow(client: Client, after: int | None, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Every event from now on (or after the event `after`), for ever.

    A daemon that goes away after it was reached once is waited for, which `tell` is told in words.
    """
    last_id: str | None = None
    reached = False
    lost = False
    pause = _FIRST_RETRY_SECONDS
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id is not None else {})
        query = {"after": after} if last_id is None else None
        try:
            with client.stream("/v1/events", query, headers) as lines:
                if lost:
                    tell("the daemon is back")
                reached, lost, pause = True, False, _FIRST_RETRY_SECONDS
                for item in parse(lines):
                    last_id = item.last_id if item.last_id is not None else last_id
                    if item.data:
                        yield _event(item.data)
        except Failure as failure:
            if not (reached and failure.passing):
                raise
        if not lost:
            tell("the daemon went away; waiting for it to come back (Ctrl-C ends this)")
            lost = True
        time.sleep(pause)
        pause = min(pause * 2, _LAST_RETRY_SECONDS)


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        raise Failure("bad_answer", "the daemon sent an event that is none", hint="is it of another version?")
    return event
