"""The relay as a unit of its own: a sealed container calls a model through it, with a key that only the relay has."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from tests.system.host_hive import PATIENCE, VENDOR_PORT, HostHive, call, inside, program, unit
from tests.unit.core.services.relay.fake_vendor import FakeVendor, whole_message

pytestmark = pytest.mark.asyncio(loop_scope="session")

RELAY = "hive-relay.service"
KEY = "sk-the-real-key-of-the-vendor-0123456789"
KEY_FILE = Path("/etc/hyperhive-keys/vendor-key")
CALL = """
import json, urllib.error, urllib.request
body = {"model": "some-model", "max_tokens": 100, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
request = urllib.request.Request("http://127.0.0.1:3129/vendor/v1/messages", json.dumps(body).encode())
request.add_header("Content-Type", "application/json")
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print("no answer", error)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[FakeVendor]:
    """A vendor on the host."""
    made = FakeVendor(whole_message)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", VENDOR_PORT).start()
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def emu(hive: HostHive, vendor: FakeVendor) -> str:
    """A sealed agent with a provider."""
    write_key()
    await program("systemctl", "start", RELAY)
    await hive.spawn_with("emu", network="sealed", provider="vendor")
    return "emu"


def write_key() -> None:
    """Write the file that the relay's unit names as its credential."""
    KEY_FILE.parent.mkdir(mode=0o700, exist_ok=True)
    KEY_FILE.touch(mode=0o600)
    KEY_FILE.write_text(KEY)


async def served(agent: str, vendor: FakeVendor) -> None:
    """Wait until a call of the agent gets an answer of the vendor, which has seen the key."""
    answer = ""
    for _ in range(int(PATIENCE)):
        vendor.requests.clear()
        answer = await program("hive-c0re", "exec", agent, "--", "python3", "-c", CALL)
        if answer.strip() == "200":
            assert [request.headers["x-api-key"] for request in vendor.requests] == [KEY]
            return
    pytest.fail(f"no answer of the vendor, but: {answer}")


async def test_a_sealed_container_calls_a_model(hive: HostHive, emu: str, vendor: FakeVendor) -> None:
    """It does so also after restarts of harness, daemon and relay, each call is in the ledger, and no key in it."""
    await served(emu, vendor)
    inside(emu, "systemctl", "restart", "hive-harness")
    await hive.idle(emu)
    await served(emu, vendor)
    await hive.restart()
    await served(emu, vendor)
    await program("systemctl", "restart", RELAY)
    await served(emu, vendor)
    usage = json.loads(await program("hive-c0re", "usage", emu, "--json"))
    assert usage["total"]["calls"] >= 4
    searched = inside(emu, "grep", "-rlaE", KEY, "/state", "/config", "/root", "/run/hive", check=False)
    assert searched == ""


async def test_the_relay_is_confined(emu: str) -> None:
    """Its unit has no privileges, leaves no core dump, and its key is in no variable, argument or journal."""
    rated = call("systemd-analyze", "security", "--no-pager", RELAY, check=False)
    found = re.search(r"Overall exposure level for hive-relay.service: ([0-9.]+)", rated)
    assert found is not None, rated
    assert float(found[1]) < 2.0, rated
    process = f"/proc/{unit(RELAY, 'MainPID')}"
    status = await program("cat", f"{process}/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE)
    seen = [await program("cat", f"{process}/{name}") for name in ("environ", "cmdline", "limits")]
    assert re.search(r"^Max core file size\s+0\s+0\s", seen[2], re.MULTILINE)
    seen.append(call("journalctl", "--no-pager", f"--unit={RELAY}", "--unit=hive-c0re"))
    assert KEY not in "".join(seen)
    for path, words in (("healthz", '"ok": true'), ("metrics", "hive_relay_calls_total")):
        asked = ("curl", "--silent", "--unix-socket", "/run/hyperhive-relay/status.sock", f"http://x/{path}")
        assert words in await program(*asked)
