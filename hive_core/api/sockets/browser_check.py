"""Refusal of requests on `host.sock` that a web browser could send by itself.

Whoever may open `host.sock` is the operator, so a web page must not reach it through a person's browser, not even
where something forwards a port to the socket. Browsers send `Origin` with requests that change something
(https://fetch.spec.whatwg.org/#origin-header), `Sec-Fetch-*` with all (https://www.w3.org/TR/fetch-metadata/), and the
name and port in the address as `Host`. Without the server's consent they send another site no body of type
application/json or of the hive's own type (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
"""

from __future__ import annotations

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.protocol.names import STREAM_TYPE

_HOSTS = frozenset({"", "hive", "localhost"})
"""Values of `Host` that clients of a unix socket send; a browser would name the forwarded port too."""
_JSON = "application/json"


def check_no_browser(request: web.BaseRequest) -> None:
    """Raise `browser_request` or `not_json` if a browser could have sent the request."""
    headers = request.headers
    for name in headers:
        if name.lower() == "origin" or name.lower().startswith("sec-fetch-"):
            raise _refusal(f"the header {name} comes from a web browser, which may not use this socket")
    host = headers.get("Host", "")
    if host not in _HOSTS:
        raise _refusal(f"Host is {ascii(host)[1:-1][:80]}, but this socket is not a web server")
    if request.body_exists and request.content_type not in (_JSON, STREAM_TYPE):
        raise HiveError("not_json", f"the body is not {_JSON}", hint=f'send "Content-Type: {_JSON}"', status=415)


def _refusal(message: str) -> HiveError:
    hint = "use hive-c0re, or curl --unix-socket with http://hive/"
    return HiveError("browser_request", message, hint=hint, status=403)
