"""Which requests may come in at all: decided by their Host, Origin and Sec-Fetch-Site headers, before anything else.

A page of another origin can make a browser send requests here. It cannot make it lie in these headers: see the Fetch
Metadata specification of the W3C, and RFC 6454 for Origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hive_agent.web.refusal import PageError
from hive_core.text import shown


@dataclass(frozen=True)
class Door:
    """One way in: the loopback's `port`, or the unix socket (None), which only the host's dashboard reaches."""

    agent: str
    port: int | None

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies do not know ports, so that all pages on a host would share one name."""
        return f"hive-{self.agent}" if self.port is None else f"hive-{self.agent}-{self.port}"

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raises `bad_host` if the browser believes to speak with somebody else (DNS rebinding).

        `localhost` is another: browsers try `::1` first, and there another agent may listen on the same port.
        """
        host = headers.get("Host", "").lower()
        if self.port is not None and host != f"127.0.0.1:{self.port}":
            raise PageError(
                "bad_host",
                f"this page is not at {shown(host)}",
                f"open it at http://127.0.0.1:{self.port}; forward the same port if it is on another machine",
                status=403,
            )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises `bad_origin` if a browser sends this for a page of another origin.

        Neither header is there if no browser sent it; then the session has to do.
        """
        site = headers.get("Sec-Fetch-Site")
        if site is not None and site != "same-origin":
            raise _foreign(f"a page that is {shown(site)}")
        origin = headers.get("Origin")
        if origin is None:
            return
        host = headers.get("Host", "").lower()
        # Behind the dashboard it may be https.
        allowed = {f"http://{host}"} if self.port is not None else {f"http://{host}", f"https://{host}"}
        if origin.lower() not in allowed:
            raise _foreign(f"a page of {shown(origin)}")


def _foreign(who: str) -> PageError:
    return PageError(
        "bad_origin", f"{who} may not use this page", "open the agent's page itself in the browser", status=403
    )
