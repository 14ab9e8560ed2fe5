"""The checks of every request before anything else sees it, and the headers of every response.

Cookies ignore ports, so a server on another port of the same host gets them and can set them. The dashboard therefore
has a host name of its own, and answers no request that names another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from hive_core.errors import HiveError
from hive_core.protocol.people.dashboard import is_origin

SAFE_METHODS = frozenset({"GET", "HEAD"})
CSRF_HEADER = "Hive-Csrf"
CSRF_FIELD = "csrf"

MOST_SESSIONS = 4
"""Sessions of one request that are looked at: each is asked of the daemon."""

_SESSION = re.compile(r"hs_[A-Za-z0-9_-]{1,100}")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types hive"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers then send "Origin: null" with forms (Fetch standard, "append a request Origin").
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_SERVER = "hyperhive"
"""Without the name and version of the library, which sets this header itself."""


@dataclass(frozen=True)
class Boundary:
    """The origin of the dashboard, as browsers see it."""

    origin: str

    def __post_init__(self) -> None:
        """Raise `bad_origin` for what is no origin."""
        if not is_origin(self.origin):
            hint = (
                "give scheme, host and, if it is not the scheme's own, port, in lower case: http://hive.localhost:7000"
            )
            raise HiveError("bad_origin", f"{self.origin!r} is no origin", hint=hint)

    @property
    def is_secure(self) -> bool:
        """True if browsers reach the dashboard by TLS."""
        return self.origin.startswith("https:")

    @property
    def host(self) -> str:
        """The value of the `Host` header."""
        return self.origin.partition("://")[2]

    @property
    def cookie(self) -> str:
        """The name of the session's cookie. With TLS its prefix keeps other hosts from setting it (RFC 6265bis)."""
        return "__Host-hive" if self.is_secure else "hive"

    def check_host(self, hosts: Sequence[str], target: str) -> None:
        """Raise `wrong_host` for a request to another host name, by its headers `Host` and its target.

        A target may be a whole address (RFC 9112, 3.2.2), which then counts, too.
        """
        own = target.startswith("/") or target.lower().startswith(f"{self.origin}/")
        if [host.lower() for host in hosts] != [self.host] or not own:
            raise HiveError(
                "wrong_host", "this address is not the dashboard's", hint=f"open {self.origin}/", status=421
            )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise `cross_origin` for a request that changes something and comes from a page of another origin."""
        # Browsers of today send both with each POST; what sends neither is no browser, and has no cookie by accident.
        site = headers.get("Sec-Fetch-Site", "same-origin")
        if headers.get("Origin", self.origin) != self.origin or site not in ("same-origin", "none"):
            raise HiveError(
                "cross_origin",
                "this request comes from a page of another origin",
                hint=f"open {self.origin}/ and act there",
                status=403,
            )

    def check_web_socket(self, headers: Mapping[str, str]) -> None:
        """Raise `cross_origin` for a WebSocket that no page of ours opens.

        Browsers open them to every origin, with its cookies, and always name the page's (RFC 6455, 10.2).
        """
        if "Origin" not in headers:
            hint = "a terminal is opened by its page; scripts use the API"
            raise HiveError("cross_origin", "this WebSocket names no origin", hint=hint, status=403)
        self.check_origin(headers)

    def sessions(self, cookies: Sequence[str]) -> list[str]:
        """Return the sessions that the headers `Cookie` of a request name.

        There may be several: another service of this machine can set a cookie of the same name for a path of ours.
        """
        found: dict[str, None] = {}
        for header in cookies:
            for pair in header.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.cookie and _SESSION.fullmatch(value):
                    found[value] = None
        return list(found)[:MOST_SESSIONS]

    def add_headers(self, headers: MutableMapping[str, str]) -> None:
        """Add the headers that every response has; those that are there already stay."""
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers["Server"] = _SERVER


def csrf_token(credential: str) -> str:
    """Return the token that forms and scripts send along, made of the session. It does not tell the session."""
    return hashlib.sha256(b"csrf:" + credential.encode()).hexdigest()[:32]


def check_csrf(credential: str, token: str) -> None:
    """Raise `no_csrf_token` for a token that is not the session's."""
    if not hmac.compare_digest(csrf_token(credential).encode(), token.encode()):
        hint = "load the page again, then repeat the action"
        raise HiveError("no_csrf_token", "this form belongs to another session", hint=hint, status=403)
