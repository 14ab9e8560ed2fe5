"""The way out of a sealed container: the proxy, as a unit of its own, and nothing beside it."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio

from tests.system.host_hive import PATIENCE, HostHive, call, inside, program, unit

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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fox(hive: HostHive) -> str:
    """A sealed agent who may reach nothing."""
    await program("systemctl", "start", EGRESS)
    await hive.spawn_with("fox", network="sealed")
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
