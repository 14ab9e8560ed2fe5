"""The checks of every request before anything else sees it, and the headers of every response.

Cookies ignore ports, so a server on another port of the same host gets them and can set them. The dashboard therefore
has a host name of its own, and answers no request that names another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from hive_core.errors import HiveError
from hive_core.protocol.people.dashboard import is_origin

SAFE_METHODS = frozenset({"GET", "HEAD"})
CSRF_HEADER = "Hive-Csrf"
CSRF_FIELD = "csrf"

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
    "Server": "hyperhive",  # Without the name and version of the library.
}


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
        """Whether browsers reach the dashboard by TLS."""
        return self.origin.startswith("https:")

    @property
    def host(self) -> str:
        """The value of the `Host` header."""
        return self.origin.partition("://")[2]

    @property
    def cookie(self) -> str:
        """The name of the session's cookie. With TLS its prefix keeps other hosts from setting it (RFC 6265bis)."""
        return "__Host-hive" if self.is_secure else "hive"

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raise `wrong_host` for a request to another host name."""
        if headers.get("Host", "").lower() != self.host:
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

    def add_headers(self, headers: MutableMapping[str, str]) -> None:
        """Add the headers that every response has; those that are there already stay."""
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)


def csrf_token(credential: str) -> str:
    """Return the token that forms and scripts send along, made of the session. It does not tell the session."""
    return hashlib.sha256(b"csrf:" + credential.encode()).hexdigest()[:32]


def check_csrf(credential: str, token: str) -> None:
    """Raise `no_csrf_token` for a token that is not the session's."""
    if not hmac.compare_digest(csrf_token(credential).encode(), token.encode()):
        hint = "load the page again, then repeat the action"
        raise HiveError("no_csrf_token", "this form belongs to another session", hint=hint, status=403)
