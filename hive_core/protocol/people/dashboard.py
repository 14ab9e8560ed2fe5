"""The settings `dashboard`: where people reach the web pages."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words

DEFAULT_ORIGIN = "http://hive.localhost:7000"
DEFAULT_LISTEN = "127.0.0.1:7000"

_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_OWN_PORTS = {"http": ":80", "https": ":443"}
_LISTEN = r"^(/[^\x00-\x1f]{1,106}|([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})$"


def is_origin(text: str) -> bool:
    """Return True for an origin as browsers write it: scheme, host in lower case, and a port that is not its own."""
    found = _ORIGIN.fullmatch(text)
    return found is not None and found[3] != _OWN_PORTS[found[1]] and int((found[3] or ":0")[1:]) <= 65_535


def _check_origin(text: str) -> str:
    if not is_origin(text):
        raise PydanticCustomError("origin", "it must be scheme, host and port as browsers write them: https://hive.tld")
    return text


class DashboardSettings(BaseModel):
    """The settings `dashboard`: the address of the web pages, and who runs their process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: Annotated[
        bool, Field(description="Whether there is a dashboard: the local runtime runs it, on NixOS a unit of its own.")
    ] = False
    origin: Annotated[
        str, AfterValidator(_check_origin), Field(description="Scheme, host and port by which browsers reach it.")
    ] = DEFAULT_ORIGIN
    listen: Annotated[
        str,
        Field(pattern=_LISTEN, description="HOST:PORT, or the path of a unix socket for a proxy."),
        in_words("it must be HOST:PORT or the path of a unix socket"),
    ] = DEFAULT_LISTEN
    group: Annotated[
        str, Field(description="Group that may use `dashboard.sock` where it exists; else only the daemon's user.")
    ] = "hyperhive-web"
