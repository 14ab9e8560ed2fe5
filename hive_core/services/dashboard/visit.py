"""One request of a browser: the person who is signed in, the daemon as that person may use it, and the answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.boundary import CSRF_FIELD, CSRF_HEADER, Boundary, check_csrf, csrf_token
from hive_core.services.dashboard.hive_client import HiveClient
from hive_core.services.dashboard.rendering import Html, render

MOST_FORM_BYTES = 1024 * 1024
_MOST_VISITOR_BYTES = 16 * 1024
"""For those who are not signed in."""
_FORM_SECONDS = 30.0
_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20]*\Z")


@dataclass(frozen=True)
class Visitor:
    """The person of a request, as the daemon names them. A visitor who is not signed in has no name."""

    name: str = ""
    role: Literal["", "viewer", "operator", "admin"] = ""

    @property
    def may_act(self) -> bool:
        """True if the person may change anything."""
        return self.role in ("operator", "admin")


@dataclass(frozen=True)
class Visit:
    """One request, after the checks of the boundary."""

    request: web.Request
    visitor: Visitor
    credential: str
    hive: HiveClient
    boundary: Boundary

    @property
    def path(self) -> Mapping[str, str]:
        """The parameters of the path."""
        return self.request.match_info

    @property
    def query(self) -> Mapping[str, str]:
        """The fields of the query string."""
        return self.request.query

    async def form(self) -> Mapping[str, str]:
        """Return the fields of a form, after the check of its CSRF token.

        Raises `no_csrf_token`, `not_a_form`, `too_slow`, `too_large`.
        """
        if self.request.content_type not in ("application/x-www-form-urlencoded", "multipart/form-data"):
            raise HiveError("not_a_form", "the body of this request is no form", hint="use the page's own form")
        request = self.request if self.credential else self.request.clone(client_max_size=_MOST_VISITOR_BYTES)
        try:
            async with asyncio.timeout(_FORM_SECONDS):
                fields = await request.post()
        except TimeoutError:
            why = f"the form did not arrive within {_FORM_SECONDS:.0f} seconds"
            raise HiveError("too_slow", why, status=HTTPStatus.REQUEST_TIMEOUT) from None
        except ValueError:
            raise HiveError(
                "not_a_form", "the body of this request is no form", hint="use the page's own form"
            ) from None
        found = {name: value for name, value in fields.items() if isinstance(value, str)}
        if self.credential:
            check_csrf(self.credential, self.request.headers.get(CSRF_HEADER) or found.pop(CSRF_FIELD, ""))
        return found

    def fragment(self, template: str, **values: object) -> Html:
        """Return a piece of HTML."""
        return render(template, {**self._shared(), **values})

    def page(self, template: str, *, status: int = HTTPStatus.OK, **values: object) -> web.Response:
        """Return a page."""
        return web.Response(text=self.fragment(template, **values), content_type="text/html", status=status)

    def go_to(self, address: str) -> web.Response:
        """Return the answer to a form: the browser loads `address`, a path of the dashboard, by GET.

        Raises ValueError for what a browser could take for an address elsewhere.
        """
        if not _OWN_PATH.match(address):
            raise ValueError(f"{address!r} is no path of the dashboard")
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})

    def keep_session(self, response: web.StreamResponse, session: str) -> None:
        """Have the browser keep a session, whose end the daemon decides on."""
        secure = self.boundary.is_secure
        response.set_cookie(self.boundary.cookie, session, httponly=True, samesite="Lax", secure=secure, path="/")

    def forget_session(self, response: web.StreamResponse) -> None:
        """Have the browser forget the session."""
        response.del_cookie(
            self.boundary.cookie, httponly=True, samesite="Lax", secure=self.boundary.is_secure, path="/"
        )

    def _shared(self) -> dict[str, Any]:
        return {
            "visitor": self.visitor,
            "csrf": csrf_token(self.credential) if self.credential else "",
            "here": self.request.path,
        }


Show = Callable[[Visit], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class WebPage:
    """A page, or an action of one. `public` ones are shown to visitors who are not signed in, too."""

    method: Literal["GET", "POST"]
    path: str
    show: Show
    public: bool = False
