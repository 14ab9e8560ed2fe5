"""URLs of upstream repositories: https and ssh only, of characters that mean nothing to a shell or to git. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hive_core.errors import HiveError
from hive_core.text import shown

_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_USER = r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_PATH = r"(?P<path>/[A-Za-z0-9._~/%+@,=-]+)"
_URL = re.compile(rf"(?P<scheme>https|ssh)://{_USER}{_HOST}{_PORT}{_PATH}")
# The form of scp, which git takes as ssh: a colon comes before the first slash.
_SCP = re.compile(rf"{_USER}{_HOST}:(?P<path>[A-Za-z0-9._~][A-Za-z0-9._~/%+@,=-]*|/[A-Za-z0-9._~/%+@,=-]+)")
_PASSWORD = re.compile(r"[a-z+]+://[^/@]*:[^/@]*@", re.IGNORECASE)
_HINT = "give https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH, or the path of a repository on this host"


@dataclass(frozen=True)
class Source:
    """A checked URL and its parts. `port` is 0 for the protocol's own port; `user` may be empty."""

    url: str
    scheme: Literal["https", "ssh"]
    user: str
    host: str
    port: int

    @property
    def server(self) -> str:
        """The server as https URLs and the questions of git name it, without a user."""
        return f"{self.host}:{self.port}" if self.port else self.host

    @property
    def known_host(self) -> str:
        """The name of the server in known_hosts(5)."""
        host = self.host.strip("[]")
        return f"[{host}]:{self.port}" if self.port not in (0, 22) else host


def parse_source(url: str) -> Source:
    """Return the parts of a URL. Raises HiveError `bad_source`, never with a password that is in it."""
    if _PASSWORD.match(url):
        raise _bad("the URL holds a password, which would be stored as plain text", "leave it out and use --token -")
    found = _URL.fullmatch(url)
    if found is not None:
        scheme: Literal["https", "ssh"] = "https" if found["scheme"] == "https" else "ssh"
    elif "://" not in url and "::" not in url.partition("[")[0] and (found := _SCP.fullmatch(url)) is not None:
        scheme = "ssh"
    else:
        raise _bad(f"{shown(url)} is no URL that the hive fetches from", _HINT)
    groups = found.groupdict()
    port = int(groups.get("port") or 0)
    if port > 65_535:
        raise _bad(f"{port} is no port", "ports end at 65535")
    if any(part == ".." for part in groups["path"].split("/")):
        raise _bad(f"{shown(url)} has `..` in its path", "give the path of the repository itself")
    return Source(url, scheme, groups["user"] or "", groups["host"].lower(), port)


def _bad(message: str, hint: str) -> HiveError:
    return HiveError("bad_source", message, hint=hint)
