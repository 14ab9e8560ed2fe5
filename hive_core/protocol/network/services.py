"""Services of the host that the operator offers by name, and their places on the loopback of sealed agents.

The operator's address is `HOST:PORT`: an address of IPv4, one of IPv6 in brackets, or a name, which is looked up at
each connection. A sealed agent reaches each of its services at a port of its own loopback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words

MAX_SERVICES = 10
"""Most services of one agent: its harness hands a listener for each to the daemon."""
_LOOPBACK = "127.0.0.1"
_BROADCAST = IPv4Address("255.255.255.255")
_FIRST_PORT = 3200
_PURPOSE = "service:"
_NAME_MOST = 253
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
"""A name of which every label can be looked up: 1 to 63 characters."""
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes the whole an IPv4 address for some programs."""
_PORT = re.compile(r"[1-9][0-9]{0,4}")

ServiceName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$"),
    in_words("it must be a name of 1 to 32 of a-z, 0-9 and -, with a letter first"),
]
"""Name of a service that the operator offers."""


class BadAddress(ValueError):
    """The reason why a text is no address of a service; a sentence without its full stop."""


class ServiceAddress(NamedTuple):
    """An address of a service: a host in its normal spelling, without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as `HOST:PORT`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> ServiceAddress:
    """Return the address that `HOST:PORT` names. Raises BadAddress."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and _PORT.fullmatch(port) and int(port) <= 65_535):
        raise BadAddress("it must be HOST:PORT, such as 127.0.0.1:5432, with a port from 1 to 65535")
    try:
        if host.startswith("[") and host.endswith("]") and "%" not in host:
            host = _connectable(IPv6Address(host[1:-1]))
        elif _NUMBER.fullmatch(host.rpartition(".")[2].lower()):
            host = _connectable(IPv4Address(host))
        elif ":" in host:
            raise BadAddress("an address of IPv6 is written in brackets, such as [::1]:5432")
        elif len(host) > _NAME_MOST or not _NAME.fullmatch(host := host.lower()):
            raise BadAddress("its host is neither an address nor a name")
    except AddressValueError:
        raise BadAddress("its host is not a valid address") from None
    return ServiceAddress(host, int(port))


def _connectable(address: IPv4Address | IPv6Address) -> str:
    """Return an address in its normal spelling. Raises BadAddress for one that is not that of one host."""
    within = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    if within.is_unspecified or within.is_multicast or within == _BROADCAST:
        raise BadAddress("it must be an address that can be connected to, such as 127.0.0.1")
    if isinstance(address, IPv6Address) and address.is_link_local:
        raise BadAddress("an address of one link (fe80::) does not say of which: use another address of that host")
    return str(address)


def _normal_address(text: str) -> str:
    try:
        return str(read_address(text))
    except BadAddress as why:
        raise PydanticCustomError("bad_address", "{why}", {"why": str(why)}) from None


ServiceAddressText = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_normal_address)]
"""An address of a service, `HOST:PORT` in its normal spelling."""


class EgressService(BaseModel):
    """A service of an agent: its port on the agent's loopback, and its address, None while it is not offered."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    port: Annotated[int, Field(ge=1, le=65_535)]
    address: ServiceAddressText | None = None


def service_ports(names: Iterable[str]) -> dict[str, int]:
    """Return the ports of services on the loopback of a sealed agent that has these, by name in their order."""
    return {name: _FIRST_PORT + number for number, name in enumerate(sorted(set(names)))}


def service_gateways(names: Iterable[str]) -> dict[str, int]:
    """Return the same ports by the purposes of their listeners."""
    return {purpose_of(name): port for name, port in service_ports(names).items()}


def purpose_of(name: str) -> str:
    """Return the purpose of the listener for a service."""
    return f"{_PURPOSE}{name}"


def service_of(purpose: str) -> str | None:
    """Return the name of the service for which a listener is; None if it is for something else."""
    return purpose.removeprefix(_PURPOSE) if purpose.startswith(_PURPOSE) else None


def place_in_agent(port: int) -> str:
    """Return the address of a service with this port in a sealed agent, as `HOST:PORT`."""
    return f"{_LOOPBACK}:{port}"


def variable_of(name: str) -> str:
    """Return the variable with the address of a service: HIVE_SERVICE_POSTGRES for `postgres`."""
    return f"HIVE_SERVICE_{name.upper().replace('-', '_')}"
