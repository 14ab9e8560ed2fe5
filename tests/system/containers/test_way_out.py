"""The way out of a sealed container: the proxy, as a unit of its own, and nothing beside it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
import pytest_asyncio

from tests.system.host_hive import PATIENCE, SERVICE_PORT, HostHive, call, inside, program, unit

pytestmark = pytest.mark.asyncio(loop_scope="session")

EGRESS = "hive-egress.service"
VISIT = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print("no answer", error)
"""


CONNECT = """
import os, socket, sys
host, port = os.environ.get(sys.argv[1], sys.argv[1]).split(":")
try:
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        print(connection.makefile().read())
except OSError:
    print("no answer")
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fox(hive: HostHive) -> str:
    """A sealed agent who may reach nothing but a service of the host."""
    await program("systemctl", "start", EGRESS)
    await hive.spawn_with("fox", network="sealed", services=["greeter"])
    return "fox"


async def visit(agent: str, address: str) -> str:
    """Return the answer to a program in the agent that knows of the proxy."""
    return await program("hive-c0re", "exec", agent, "--", "python3", "-c", VISIT, address)


async def refused(agent: str) -> None:
    """Wait until the proxy answers the agent again."""
    answer = ""
    for _ in range(int(PATIENCE)):
        answer = await visit(agent, "http://nothing.example.com/")
        if answer.startswith("403"):
            assert "nothing.example.com" in answer
            return
    pytest.fail(f"the proxy does not refuse, but: {answer}")


async def test_the_proxy_answers_a_sealed_container(hive: HostHive, fox: str) -> None:
    """It refuses what no rule allows, also after restarts of harness, daemon and proxy; past it there is nothing."""
    await refused(fox)
    inside(fox, "systemctl", "restart", "hive-harness")
    await hive.idle(fox)
    await refused(fox)
    await hive.restart()
    await refused(fox)
    await program("systemctl", "restart", EGRESS)
    await refused(fox)
    direct = inside(fox, "env", "-u", "http_proxy", "python3", "-c", VISIT, "http://192.0.2.1/")
    assert "unreachable" in direct


async def test_a_service_of_the_host(fox: str) -> None:
    """A sealed container reaches a service by its name, and the host's loopback by no other way."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"greetings")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", SERVICE_PORT):
        line = ("hive-c0re", "exec", fox, "--", "python3", "-c", CONNECT)
        assert await program(*line, "HIVE_SERVICE_GREETER") == "greetings\n"
        assert await program(*line, f"127.0.0.1:{SERVICE_PORT}") == "no answer\n"


async def test_the_doctor_proves_the_seal(hive: HostHive, fox: str) -> None:
    """From inside of the container nothing is reached that must not be, and the doctor's own listeners saw nobody."""
    done = json.loads(await program("hive-c0re", "doctor", "--live", "--json", fox, check=False))
    (seal,) = done["live"]["seals"]
    assert (seal["agent"], seal["network"], seal["severity"]) == (fox, "sealed", "ok"), seal
    held = {each["check"] for each in seal["checks"] if each["held"]}
    addresses = {"metadata", "private-address", "public-tcp", "public-udp"}
    assert held >= {"loopback", "abstract-socket", "nix-socket", *addresses}
    assert not any(each["seen"] or each["reached"] for each in seal["checks"])


async def test_the_proxy_is_confined(fox: str) -> None:
    """Its unit has no privileges, reads no file of the hive, and tells how it is on a socket."""
    rated = call("systemd-analyze", "security", "--no-pager", EGRESS, check=False)
    found = re.search(r"Overall exposure level for hive-egress.service: ([0-9.]+)", rated)
    assert found is not None, rated
    assert float(found[1]) < 2.0, rated
    status = await program("cat", f"/proc/{unit(EGRESS, 'MainPID')}/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE)
    asked = ("curl", "--silent", "--unix-socket", "/run/hyperhive-egress/status.sock", "http://x/healthz")
    assert (await program(*asked)).strip()
