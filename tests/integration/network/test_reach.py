"""Allowed hosts are reached: over both families, with TLS and without, and by real programs."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers.network.fake_daemon import FakeDaemon
from tests.helpers.network.world import PROXY, SERVER_4, SERVER_6

pytestmark = pytest.mark.asyncio(loop_scope="session")

_URLLIB = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
"""
_AIOHTTP = """
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(sys.argv[1]) as response:
        print(await response.text())
asyncio.run(main())
"""
_FETCH = "fetch(process.argv[1]).then(response => response.text()).then(text => console.log(text))"
_UNDICI_PROXY = (
    "const http = require('http');"
    + """
const request = http.request({host: '127.0.0.1', port: 3128, path: process.argv[1]}, response => {
  response.setEncoding('utf8'); response.on('data', text => process.stdout.write(text));
});
request.setHeader('Host', new URL(process.argv[1]).host); request.end();
"""
)


def needs(program: str) -> None:
    """Skip the test if a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"not installed: {program}")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "line",
    [
        ["curl", "-sS", "--fail-with-body"],
        ["wget", "-qO-", "--ca-certificate=authority.pem"],
        [sys.executable, "-c", _URLLIB],
        [sys.executable, "-c", _AIOHTTP],
    ],
    ids=["curl", "wget", "urllib", "aiohttp"],
)
async def test_programs_get_a_page(daemon: FakeDaemon, line: list[str], scheme: str) -> None:
    """Programs that know proxies get a page of an allowed host, with TLS and without."""
    needs(line[0])
    status, printed = await daemon.world.run(*line, f"{scheme}://ok.example.org/page?x=1")
    assert status == 0, printed
    page = json.loads(printed)
    assert page["path"] == "/page?x=1" and dict(page["fields"])["Host"] == "ok.example.org"
    assert page["here"].removeprefix("::ffff:") in (SERVER_4, SERVER_6)


@pytest.mark.parametrize(("host", "address"), [("four", f"::ffff:{SERVER_4}"), ("six", SERVER_6)])
async def test_both_families(daemon: FakeDaemon, host: str, address: str) -> None:
    """A host with addresses of one family only is reached over that."""
    await daemon.allow(f"{host}.example.org")
    status, printed = await daemon.world.run("curl", "-sS", f"https://{host}.example.org/")
    assert status == 0 and json.loads(printed)["here"] in (address, address.removeprefix("::ffff:"))


@pytest.mark.parametrize("host", ["dead-six", "dead-four", "mixed"])
async def test_an_address_that_works_is_found(daemon: FakeDaemon, host: str) -> None:
    """Another address of the same host is taken where one does not answer, or is refused."""
    await daemon.allow(f"{host}.example.org")
    status, printed = await daemon.world.run("curl", "-sS", f"https://{host}.example.org/")
    assert status == 0, printed
    assert json.loads(printed)["here"].removeprefix("::ffff:") in (SERVER_4, SERVER_6)


async def test_other_ports_by_name(daemon: FakeDaemon) -> None:
    """A port that a rule names is reached with SSH, also of servers that speak first, with TLS, and with HTTP."""
    await daemon.allow("ok.example.org:22", "ok.example.org:8443", "ok.example.org:8080")
    program = [sys.executable, "-m", "tests.helpers.network.connect_program", "ok.example.org:22"]
    status, printed = await daemon.world.run(*program, "SSH-2.0-client\n", cwd=Path.cwd())
    assert status == 0, printed
    established = "HTTP/1.1 200 Connection established\r\n\r\n"
    assert printed == f"{established}SSH-2.0-test\r\nSSH-2.0-client\nbye\n", printed
    status, printed = await daemon.world.run("curl", "-sS", "https://ok.example.org:8443/")
    assert status == 0, printed
    for line in (["curl", "-sS"], ["curl", "-sS", "--proxytunnel"]):
        status, printed = await daemon.world.run(*line, "http://ok.example.org:8080/page")
        assert status == 0 and json.loads(printed)["path"] == "/page", printed
    status, printed = await daemon.world.run("curl", "-sS", "https://ok.example.org/")
    assert status != 0 and "403" in printed


async def test_a_second_client_hello_passes(daemon: FakeDaemon) -> None:
    """A server may ask for another group, as OpenSSL's clients and servers do with TLS 1.3."""
    line = ["curl", "-sS", "--curves", "X25519:P-256", "https://ok.example.org/"]
    status, printed = await daemon.world.run(*line)
    assert status == 0, printed


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_large_bodies(daemon: FakeDaemon, scheme: str, tmp_path: Path) -> None:
    """Bodies of megabytes pass in both directions, whole."""
    world = daemon.world
    status, printed = await world.run("curl", "-sS", f"{scheme}://ok.example.org/bytes?count=20000000", "-o", "big")
    assert status == 0, printed
    assert (world.directory / "big").stat().st_size >= 20_000_000
    (world.directory / "sent").write_text("y" * 3_000_000)
    line = ["curl", "-sS", "--data-binary", "@sent", f"{scheme}://ok.example.org/", "-o", "echoed"]
    status, printed = await world.run(*line)
    assert status == 0, printed
    assert json.loads((world.directory / "echoed").read_text())["body"] == "y" * 3_000_000


async def test_node_fetches(daemon: FakeDaemon) -> None:
    """Node's HTTP client reaches a host through the proxy, and so does its `fetch` where it knows proxies."""
    needs("node")
    status, printed = await daemon.world.run("node", "-e", _UNDICI_PROXY, "http://ok.example.org/page")
    assert status == 0 and json.loads(printed)["path"] == "/page", printed
    _, version = await daemon.world.run("node", "--version")
    if tuple(map(int, version.strip().lstrip("v").split(".")[:2])) >= (24, 0):  # NODE_USE_ENV_PROXY
        for scheme in ("http", "https"):
            status, printed = await daemon.world.run("node", "-e", _FETCH, f"{scheme}://ok.example.org/page")
            assert status == 0 and json.loads(printed)["path"] == "/page", printed


async def test_plain_http_in_a_tunnel(daemon: FakeDaemon) -> None:
    """A program that opens a tunnel for plain HTTP, too, as Node's `fetch` does, gets the page."""
    status, printed = await daemon.world.run("curl", "-sS", "--proxytunnel", "http://ok.example.org/page")
    assert status == 0 and json.loads(printed)["path"] == "/page", printed


async def test_git_clones(daemon: FakeDaemon, tmp_path: Path) -> None:
    """git clones over https."""
    needs("git")
    await daemon.allow("git.example.org")
    source, served = tmp_path / "source", daemon.world.files / f"{tmp_path.name}.git"

    def make() -> None:
        def git(*line: str) -> None:
            identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
            subprocess.run(["git", *identity, *line], check=True, capture_output=True)

        git("init", "-q", str(source))
        (source / "file").write_text("content\n")
        git("-C", str(source), "add", ".")
        git("-C", str(source), "commit", "-qm", "first")
        git("clone", "-q", "--bare", str(source), str(served))
        git("-C", str(served), "update-server-info")

    await asyncio.to_thread(make)
    url = f"https://git.example.org/files/{served.name}"
    status, printed = await daemon.world.run("git", "clone", "-q", url, str(tmp_path / "clone"))
    assert status == 0, printed
    assert (tmp_path / "clone" / "file").read_text() == "content\n"


@pytest.mark.thorough
async def test_pip_installs(daemon: FakeDaemon, tmp_path: Path) -> None:
    """pip, or uv in its place, installs a package from an index."""
    await daemon.allow("pypi.example.org")
    index = daemon.world.files / "simple" / "thing"
    index.mkdir(parents=True)
    name = "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(index / name, "w") as wheel:
        wheel.writestr("thing.py", "")
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    (index / "index.html").write_text(f'<a href="{name}">{name}</a>')
    place = "https://pypi.example.org/files/simple/thing/index.html"
    source = ["--no-index", "--find-links", place, "--target", str(tmp_path / "t"), "thing"]
    if importlib.util.find_spec("pip") is not None:
        trust = ["--proxy", PROXY, "--cert", str(daemon.world.authority)]
        line = [sys.executable, "-m", "pip", "--isolated", "install", "-q", "--no-cache-dir", *trust, *source]
    else:  # An environment that uv has made has no pip.
        needs("uv")
        line = ["uv", "pip", "install", "-q", "--no-cache", "--python", sys.executable, *source]
    status, printed = await daemon.world.run(*line)
    assert status == 0, printed
    assert (tmp_path / "t" / "thing.py").exists()


@pytest.mark.thorough
async def test_npm_installs(daemon: FakeDaemon, tmp_path: Path) -> None:
    """npm installs a package from a registry."""
    needs("npm")
    await daemon.allow("npm.example.org")
    registry = "https://npm.example.org/files/npm"
    place = daemon.world.files / "npm"
    place.mkdir()
    package = json.dumps({"name": "thing", "version": "1.0.0"})
    with tarfile.open(place / "thing-1.0.0.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size = len(package)
        archive.addfile(member, io.BytesIO(package.encode()))
    version = {**json.loads(package), "dist": {"tarball": f"{registry}/thing-1.0.0.tgz"}}
    described = {"name": "thing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (place / "thing").write_text(json.dumps(described))
    line = ["npm", "install", "--registry", registry, "--no-audit", "--no-fund", "--prefix", str(tmp_path), "thing"]
    environment = daemon.world.proxied(npm_config_cache=str(tmp_path / "cache"), npm_config_update_notifier="false")
    status, printed = await daemon.world.run(*line, environment=environment, cwd=tmp_path)
    assert status == 0, printed
    assert json.loads((tmp_path / "node_modules" / "thing" / "package.json").read_text())["version"] == "1.0.0"


@pytest.mark.parametrize(
    "line", [["nix-prefetch-url", "--type", "sha256"], ["nix", "store", "prefetch-file"]], ids=" ".join
)
async def test_nix_fetches(daemon: FakeDaemon, line: list[str], tmp_path: Path) -> None:
    """nix without a daemon, as a sealed agent has it, fetches a file into a store of its own."""
    needs(line[0])
    (daemon.world.files / f"{tmp_path.name}.txt").write_text("for nix\n")
    own = {name: str(tmp_path / name) for name in ("NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR")}
    environment = daemon.world.proxied(
        **own,
        NIX_SSL_CERT_FILE=str(daemon.world.authority),
        NIX_CONFIG="experimental-features = nix-command\nbuild-users-group =\nsandbox = false\ndownload-attempts = 1",
        HOME=str(tmp_path),
    )
    url = f"https://files.example.org/files/{tmp_path.name}.txt"
    status, printed = await daemon.world.run(*line, url, environment=environment)
    assert status == 0, printed
    [stored] = (tmp_path / "NIX_STORE_DIR").glob(f"*-{tmp_path.name}.txt")
    assert stored.read_text() == "for nix\n"
    status, printed = await daemon.world.run(*line, "https://secret-nix.example.org/x", environment=environment)
    assert status != 0 and not [each for each in daemon.world.queries() if "secret-nix" in each], printed


_GO = """
package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
    response, err := http.Get(os.Args[1])
    if err != nil { fmt.Println(err); os.Exit(1) }
    body, _ := io.ReadAll(response.Body)
    fmt.Println(string(body))
}
"""


@pytest.mark.thorough
async def test_a_go_program_gets_a_page(daemon: FakeDaemon, tmp_path: Path) -> None:
    """A program in Go gets a page with TLS and without, and is refused another host."""
    needs("go")
    (tmp_path / "main.go").write_text(_GO)
    build = {
        "GOCACHE": str(tmp_path / "cache"),
        "GOPATH": str(tmp_path / "go"),
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    line = ["go", "build", "-o", str(tmp_path / "program"), str(tmp_path / "main.go")]
    built = await asyncio.to_thread(
        subprocess.run, line, env={**os.environ, **build}, cwd=tmp_path, capture_output=True, check=False
    )
    assert built.returncode == 0, built.stderr
    for scheme in ("http", "https"):
        status, printed = await daemon.world.run(str(tmp_path / "program"), f"{scheme}://ok.example.org/page")
        assert status == 0 and json.loads(printed)["path"] == "/page", printed
    status, printed = await daemon.world.run(str(tmp_path / "program"), "https://other.example.org/page")
    assert status == 1 and "No rule for other.example.org" in printed, printed
