"""The page's files: a template, filled in once, and what is served as it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """A file for browsers. `tag` changes with its content."""

    content: bytes
    media_type: str
    tag: str


@cache
def static() -> dict[str, Asset]:
    """All files that are served as they are, by name. Read at the first use: most harnesses are never looked at."""
    files = [file for file in (_HERE / "static").iterdir() if file.suffix in _TYPES]
    return {file.name: _asset(file.read_bytes(), _TYPES[file.suffix]) for file in files}


@cache
def page(name: str, agent: str, manager: bool) -> Asset:
    """The HTML page `name`, for this agent."""
    import jinja2  # noqa: PLC0415 (not before somebody looks)

    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.get_template(f"{name}.html.j2").render(agent=agent, manager=manager)
    return _asset(text.encode(), "text/html")


def _asset(content: bytes, media_type: str) -> Asset:
    return Asset(content, media_type, hashlib.sha256(content).hexdigest()[:32])
