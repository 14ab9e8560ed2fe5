"""HTML of templates. Jinja2 escapes all values; no template marks a text of somebody else as safe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import overload
from urllib.parse import quote

import jinja2
import markupsafe

from hive_core.services.dashboard.assets import asset_url
from hive_core.text import visible

_HERE = Path(__file__).parent
NAVIGATION: Mapping[str, str] = {
    "/": "Overview",
    "/decisions": "Decisions",
    "/repositories": "Repositories",
    "/usage": "Usage",
    "/settings": "Settings",
}
"""The pages that the navigation and the palette lead to, by their addresses."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class Html(str):
    """HTML that a template of the dashboard has made, so that another template may contain it."""

    __slots__ = ()


def render(template: str, values: Mapping[str, object]) -> Html:
    """Return the HTML of `template`, a name such as `overview/overview.html.j2`."""
    return Html(_environment().get_template(template).render(values))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_HERE / "frame" / "templates", _HERE / "pages"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(static=asset_url, navigation=NAVIGATION)
    environment.filters.update(
        fragment=_as_fragment, ago=ago, clock=clock, moment=moment, segment=segment, visible=visible
    )
    return environment


def _as_fragment(html: object) -> markupsafe.Markup:
    if not isinstance(html, Html):
        raise TypeError("only HTML of a template of ours is put into a page as it is")
    return markupsafe.Markup(html)  # Made by a template, which escapes.


def segment(text: object) -> str:
    """Return `text` as one segment of a path."""
    return quote(str(text), safe="")


@overload
def milliseconds_of(time: str) -> int: ...


@overload
def milliseconds_of(time: str | None) -> int | None: ...


def milliseconds_of(time: str | None) -> int | None:
    """Return a time of an answer (RFC 3339) as Unix milliseconds."""
    return None if time is None else round(datetime.fromisoformat(time).timestamp() * 1000)


def moment(milliseconds: float) -> str:
    """Return a time (Unix, milliseconds) as RFC 3339, for `<time datetime>`."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def clock(milliseconds: float) -> str:
    """Return a time (Unix, milliseconds) in full, for people, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(milliseconds: float, now: float | None = None) -> str:
    """Return the time that has passed since `milliseconds` (Unix) in its largest unit: `5 min ago`."""
    passed = (now if now is not None else datetime.now(UTC).timestamp()) - milliseconds / 1000
    if passed < 0:
        return f"in {_length(-passed)}"
    return f"{_length(passed)} ago" if passed >= 1 else "now"


def _length(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"
