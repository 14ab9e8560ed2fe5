"""Addresses of services of the host, and their places in agents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig
from hive_core.protocol.network.services import (
    MAX_SERVICES,
    BadAddress,
    ServiceAddress,
    purpose_of,
    read_address,
    service_gateways,
    service_of,
    service_ports,
    variable_of,
)
from hive_core.settings import load


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:5432", "127.0.0.1", 5_432),
        ("[::1]:5432", "::1", 5_432),
        ("[0:0::0:1]:1", "::1", 1),
        ("localhost:65535", "localhost", 65_535),
        ("DB.example:5432", "db.example", 5_432),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """Addresses of both families and names are read, and written in one spelling that is read as the same again."""
    assert read_address(text) == ServiceAddress(host, port)
    assert read_address(str(read_address(text))) == ServiceAddress(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "127.0.0.1", ":5432", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:+1"),
        *("127.1:5432", "2130706433:5432", "0x7f.1:80", "0x7f000001:80", "127.0.0.01:80", "256.0.0.1:80"),
        *("::1:5432", "[::1:5432", "[::1%eth0]:80", "[]:80", "[127.0.0.1]:80", "0.0.0.0:80", "[::]:80"),
        *("[::ffff:0.0.0.0]:80", "224.0.0.1:80", "[ff02::1]:80", "255.255.255.255:80", "[fe80::1]:80"),
        *("a..b:80", ".a:80", "a.-b:80", "a-.b:80", f"{'a' * 64}.b:80"),
        *("a b:80", "a/b:80", "-a:80", "a-:80", "http://a:80", "bücher:80", "/run/postgresql/.s.PGSQL.5432"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Texts that programs could understand differently, or that nothing can be connected to, are no addresses."""
    with pytest.raises(BadAddress):
        read_address(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text causes another error, and what is read is in its normal spelling."""
    try:
        found = read_address(text)
    except BadAddress:
        return
    assert read_address(str(found)) == found


def test_settings() -> None:
    """Offers are a table of the settings, also in the environment; a wrong address is refused with its place."""
    found = load(None, {"HIVE_SERVICES": '{"db": "LOCALHOST:5432"}'}, {})
    assert found.services == {"db": "localhost:5432"}
    with pytest.raises(HiveError, match=r"'services.db' from HIVE_SERVICES: it must be HOST:PORT") as caught:
        load(None, {"HIVE_SERVICES": '{"db": "localhost"}'}, {})
    assert caught.value.code == "bad_setting"


def test_places_in_an_agent() -> None:
    """Services have ports from 3200 on in the order of their names, however often and in which order they are named."""
    names = ["web", "db", "web", "cache"]
    assert service_ports(names) == {"cache": 3_200, "db": 3_201, "web": 3_202}
    assert service_gateways(names) == {"service:cache": 3_200, "service:db": 3_201, "service:web": 3_202}
    assert service_of(purpose_of("db")) == "db"
    assert service_of("proxy") is None
    assert variable_of("my-db") == "HIVE_SERVICE_MY_DB"


def test_an_agent_has_few_services() -> None:
    """A configuration with more services than a harness hands listeners over for is refused."""
    AgentConfig(services=[f"s{number}" for number in range(MAX_SERVICES)])
    with pytest.raises(ValidationError):
        AgentConfig(services=[f"s{number}" for number in range(MAX_SERVICES + 1)])
