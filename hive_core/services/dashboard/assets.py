"""Files that are served as they are: scripts, styles and images of the dashboard and of its pages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from hive_core.errors import HiveError

_HERE = Path(__file__).parent
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class WebFile:
    """A file for browsers. `tag` changes with the content of any file: scripts import others by relative addresses."""

    content: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, WebFile]:
    """Return every file in a folder `static`, by its name."""
    contents: dict[str, bytes] = {}
    for file in sorted(_HERE.rglob("static/*")):
        if file.suffix in _TYPES:
            if file.name in contents:
                raise RuntimeError(f"two files are called {file.name}")
            contents[file.name] = file.read_bytes()
    tag = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    return {name: WebFile(content, _TYPES[Path(name).suffix], tag) for name, content in contents.items()}


def asset_url(name: str) -> str:
    """Return the address of a file. It changes with the content, so that browsers may keep it for a year."""
    return f"/static/{assets()[name].tag}/{name}"


async def serve_asset(request: web.Request) -> web.StreamResponse:
    """Serve one file."""
    asset = assets().get(request.match_info["name"])
    if asset is None:
        raise HiveError("not_found", "there is no such file", status=404)
    headers = {"ETag": f'"{asset.tag}"', "Cache-Control": "no-cache"}
    if request.match_info["tag"] == asset.tag:
        headers["Cache-Control"] = "public, max-age=31536000, immutable"
    if any(tag.value == asset.tag for tag in request.if_none_match or ()):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    response = web.Response(body=asset.content, content_type=asset.media_type, charset="utf-8", headers=headers)
    response.enable_compression()
    return response
