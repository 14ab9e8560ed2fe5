"""The dashboard behind nginx, with the configuration that docs/web.md shows."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.dashboard.test_people_pages import PASSWORD
from tests.unit.core.cli.run_cli import Program
from tests.unit.core.services.dashboard.server.test_tls import write_pair

PAGE = Path(__file__).parents[3] / "docs/web.md"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/run/current-system/sw/bin")


def write_configuration(place: Path, port: int) -> Path:
    """Write the documented server into a configuration that needs no root, with the files and the port of the test."""
    found = re.search(r"<!-- nginx -->\n```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    certificate, key = write_pair(place, "hive.example.org")
    server = found[1]
    for documented, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/hive.example.org.pem", str(certificate)),
        ("/etc/ssl/private/hive.example.org.key", str(key)),
        ("/run/hyperhive-dashboard.sock", str(place / "web.sock")),
    ):
        assert documented in server
        server = server.replace(documented, here)
    kept = "".join(f"{kind}_temp_path {place}/t;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file = place / "nginx.conf"
    file.write_text(
        f"daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{kept}{server}}}\n"
    )
    return file


@asynccontextmanager
async def running(hive: Daemon, port: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Run the dashboard on a unix socket, and nginx before it; yields a client of nginx."""
    assert NGINX is not None
    configuration = write_configuration(hive.home, port)
    line = [sys.executable, "-m", "hive_core", "dashboard", "--daemon", str(hive.run_dir / "dashboard.sock")]
    line += ["--listen", str(hive.home / "web.sock"), "--origin", f"https://hive.example.org:{port}"]
    processes = _start(line, [NGINX, "-c", str(configuration)])
    trusting = aiohttp.TCPConnector(ssl=_trust_all(), resolver=_Here())
    try:
        jar = aiohttp.CookieJar()
        async with aiohttp.ClientSession(
            f"https://hive.example.org:{port}", connector=trusting, cookie_jar=jar
        ) as client:
            while True:
                with suppress(aiohttp.ClientError):
                    async with client.get("/healthz") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.05)
            yield client
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)


def _start(*lines: list[str]) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen(line) for line in lines]


def _trust_all() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class _Here(aiohttp.abc.AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": flags}]

    async def close(self) -> None:
        pass


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
async def test_the_documented_proxy(hive: Daemon) -> None:
    """Behind nginx people sign in with their own address, cookies are secure, and events come as they happen."""
    link = (await Program(hive.host_socket).run("operator", "setup")).out.strip()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with running(hive, port) as client:
        form = {"token": link.partition("#")[2], "name": "ada", "password": PASSWORD, "again": PASSWORD}
        forged = {"X-Forwarded-For": "203.0.113.9"}
        async with client.post("/setup", data=form, headers=forged, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            (cookie,) = answer.headers.getall("Set-Cookie")
            assert cookie.startswith("__Host-hive=hs_")
            assert "Secure" in cookie
        async with client.get("/settings") as answer:
            page = await answer.text()
            assert "127.0.0.1 <span" in page, page
            assert "203.0.113.9" not in page
        async with client.get("/live?part=overview.agents") as stream:
            while b"part" not in await asyncio.wait_for(stream.content.readline(), 20):
                pass
            await hive.ask("POST", "/v1/agents", {"name": "new"})
            while b"/agents/new" not in await asyncio.wait_for(stream.content.readline(), 20):
                pass
