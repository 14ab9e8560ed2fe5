"""Requests that no rule allows are refused, with a reason for agent and daemon, and nothing of them gets out."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import sys
from pathlib import Path

import pytest

from hive_core.protocol.network.packets import Reason
from tests.helpers.network.fake_daemon import FakeDaemon
from tests.helpers.network.hostile_requests import CORPUS
from tests.helpers.network.world import DNS, HOST_PUBLIC, SERVER_4, SERVER_6

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED_HOSTS = dict(
    [
        *dict.fromkeys(("private", "unique-local", "link"), "private").items(),
        *dict.fromkeys(("metadata", "azure"), "metadata").items(),
        *dict.fromkeys(("host", "neighbour"), "in a network of this host").items(),
        *(("loopback", "loopback"), ("nat64", "NAT64"), ("mapped", "within an IPv6"), ("unspecified", "is ")),
    ]
)
"""Names that lead to refused addresses, and a part of the reason."""


async def curl(daemon: FakeDaemon, *line: str) -> str:
    """Return what curl says of a request that does not succeed."""
    status, printed = await daemon.world.run("curl", "-sS", "--max-time", "20", *line)
    assert status != 0 or "hyperhive: " in printed, printed
    return printed


async def raw(daemon: FakeDaemon, text: str, target: str = "-") -> str:
    """Send bytes to the proxy, and return its answer."""
    line = [sys.executable, "-m", "tests.helpers.network.connect_program", target, text]
    _, printed = await daemon.world.run(*line, cwd=Path.cwd())
    return printed


async def test_a_refusal_says_what_to_do(daemon: FakeDaemon) -> None:
    """An agent reads which rule is missing and how to ask for it; the daemon hears it once, with a count."""
    for _ in range(3):
        printed = await curl(daemon, "http://unknown.example.org/")
    assert "'unknown.example.org'" in printed and "request_network" in printed
    assert "403" in await curl(daemon, "https://unknown.example.org/")
    code = "import urllib.request; urllib.request.urlopen('https://unknown.example.org/')"
    _, printed = await daemon.world.run(sys.executable, "-c", code)
    assert "No rule for unknown.example.org - see request_network" in printed
    packet = await daemon.wait_refusal("no_rule", "unknown.example.org")
    assert (packet.agent, packet.missing) == ("ada", "unknown.example.org")
    assert "unknown.example.org:8080" in await curl(daemon, "http://unknown.example.org:8080/")


async def test_a_refused_name_is_not_looked_up(daemon: FakeDaemon) -> None:
    """A name without a rule, or with a rule for another port, causes no query: names could carry secrets out."""
    await curl(daemon, "https://secret-word.example.org/")
    await curl(daemon, "http://ok.example.org.secret-word.example.net/")
    await curl(daemon, "https://below.example.org/")
    await curl(daemon, "https://ok.example.org:8443/")
    await daemon.wait_refusal("no_rule", "ok.example.org")
    assert not [each for each in daemon.world.queries() if "secret-word" in each or each.startswith("below.")]


async def test_names_below_a_wildcard(daemon: FakeDaemon) -> None:
    """`*.host` lets names below the host through, and not the host itself."""
    status, printed = await daemon.world.run("curl", "-sS", "https://www.below.example.org/")
    assert status == 0, printed
    assert "403" in await curl(daemon, "https://below.example.org/")


@pytest.mark.parametrize("host", REFUSED_HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_refused_addresses(daemon: FakeDaemon, host: str, scheme: str) -> None:
    """A name that is allowed and leads to this host, to its network or to a private address is refused, though open."""
    await daemon.allow(f"{host}.example.org", open=True)
    printed = await curl(daemon, f"{scheme}://{host}.example.org/")
    assert ("403" if scheme == "https" else "refused") in printed
    packet = await daemon.wait_refusal("refused_address", f"{host}.example.org")
    assert REFUSED_HOSTS[host] in packet.detail


@pytest.mark.parametrize(
    "host",
    [SERVER_4, f"[{SERVER_6}]", "45.10", "757071882", "0x2d00000a", "055.0.0.012", HOST_PUBLIC, "127.0.0.1", "[::1]",
     f"[::ffff:{SERVER_4}]", "localhost", "printer.local", f"{SERVER_4}."],
)  # fmt: skip
async def test_addresses_are_refused(daemon: FakeDaemon, host: str) -> None:
    """Nobody is reached by an address in any notation, even if everything is open."""
    await daemon.allow(open=True)
    for request in (
        f"CONNECT {host}:443 HTTP/1.1\\r\\nHost: {host}:443\\r\\n\\r\\n",
        f"GET http://{host}/ HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n",
    ):
        assert (await raw(daemon, request)).startswith("HTTP/1.1 403 ")
    await daemon.wait_refusal("not_a_name", host)


async def test_a_name_that_changes_after_the_check(daemon: FakeDaemon) -> None:
    """The address that was checked is the one that is connected to: there is one look-up, and no second answer."""
    await daemon.allow("flip.example.org")
    status, printed = await daemon.world.run("curl", "-sS", "https://flip.example.org/")
    assert status == 0 and json.loads(printed)["here"].removeprefix("::ffff:") == SERVER_4, printed
    assert daemon.world.queries().count("flip.example.org A") == 1
    # Names of other hosts push this one out of the memory of the proxy's answers only with time: a new proxy asks anew.
    status, printed = await daemon.world.run("curl", "-sS", "https://flip.example.org/")
    assert status == 0 and daemon.world.queries().count("flip.example.org A") == 1


async def test_redirects_are_decided_on_as_requests(daemon: FakeDaemon) -> None:
    """A redirect of an allowed host to another one is refused when the program follows it."""
    line = ["-L", "https://ok.example.org/redirect?to=https://other.example.org/"]
    before = daemon.world.queries().count("other.example.org A")
    assert "403" in await curl(daemon, *line)
    await daemon.wait_refusal("no_rule", "other.example.org")
    assert daemon.world.queries().count("other.example.org A") == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["https://ok.example.org/", "-H", "Host: x"], None),
        (["--connect-to", "other.example.org:443:ok.example.org:443", "https://other.example.org/"], "server_name"),
        (["--proxytunnel", "http://ok.example.org:443/"], "not_tls"),
        (["http://ok.example.org:443/"], "not_tls"),
        (["http://ok.example.org/", "-H", "Host: other.example.org"], "bad_request"),
        (["http://ok.example.org/", "-H", "Upgrade: websocket", "-H", "Connection: Upgrade"], "bad_request"),
        (["--http2", "http://ok.example.org/"], "bad_request"),
        (["--http2-prior-knowledge", "--proxytunnel", "http://ok.example.org/"], "bad_request"),
        (["--proxytunnel", "http://ok.example.org:25/"], "port"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else str(value),
)
async def test_other_servers_and_protocols(daemon: FakeDaemon, line: list[str], reason: Reason | None) -> None:
    """TLS is TLS for the host that was asked for, HTTP is HTTP/1 for it, and mail does not get out."""
    before = daemon.world.queries().count("other.example.org A")
    printed = await curl(daemon, *line) if reason else ""
    if reason is None:  # Fronting behind an allowed host: what is in TLS is not seen.
        status, _ = await daemon.world.run("curl", "-sS", *line)
        assert status == 0
        return
    packet = await daemon.wait_refusal(reason)
    assert packet.agent == "ada", printed
    assert daemon.world.queries().count("other.example.org A") == before


@pytest.mark.parametrize(
    ("target", "text", "reason"),
    [
        ("ok.example.org:22", "GET / HTTP/1.1\\r\\nHost: other.example.org\\r\\n\\r\\n", "not_tls"),
        ("ok.example.org:22", "\\x16\\x03\\x01\\x00\\x05hello", "not_tls"),
        ("ok.example.org:22", "\\r\\nSSH-2.0-client\\r\\n", "not_tls"),
        ("ok.example.org:8443", "\\x00\\x00\\x00\\x08\\x04\\xd2\\x16/", "not_tls"),
        ("ok.example.org:8443", "\\r\\nGET / HTTP/1.1\\r\\nHost: other.example.org\\r\\n\\r\\n", "not_tls"),
        ("ok.example.org:8443", "\\x16\\x03\\x01\\x00\\x05hello", "not_tls"),
        ("ok.example.org:8080", "GET / HTTP/1.1\\r\\nHost: other.example.org\\r\\n\\r\\n", "bad_request"),
        ("ok.example.org:8080", "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", "bad_request"),
    ],
)
async def test_other_ports_carry_what_is_checked(daemon: FakeDaemon, target: str, text: str, reason: Reason) -> None:
    """A port that a rule names carries SSH (22), or TLS, SSH and HTTP: others could name another host."""
    await daemon.allow("ok.example.org:22", "ok.example.org:8443", "ok.example.org:8080")
    printed = await raw(daemon, text, target)
    assert '"path"' not in printed, printed
    await daemon.wait_refusal(reason, "ok.example.org" if reason == "not_tls" else "")


async def test_tls_on_other_ports_names_the_host(daemon: FakeDaemon) -> None:
    """TLS to a port that a rule names is refused with an alert if it names another server."""
    await daemon.allow("ok.example.org:8443")
    line = ["--connect-to", "other.example.org:8443:ok.example.org:8443", "https://other.example.org:8443/"]
    await curl(daemon, *line)
    packet = await daemon.wait_refusal("server_name", "ok.example.org")
    assert packet.port == 8443 and "other.example.org" in packet.detail


async def test_a_server_that_speaks_first_speaks_ssh(daemon: FakeDaemon) -> None:
    """Of a server that speaks first, and not SSH, the agent hears nothing, though a rule names the port."""
    await daemon.allow("ok.example.org:587")
    assert "220 mail" not in await raw(daemon, "", "ok.example.org:587")
    assert "speaks first, and not SSH" in (await daemon.wait_refusal("not_tls", "ok.example.org")).detail


async def test_hidden_server_names(daemon: FakeDaemon) -> None:
    """A client that can hide the name of the server is refused with an alert of TLS, unless the policy allows it."""
    hello = (
        "\\x16\\x03\\x01\\x00\\x4c\\x01\\x00\\x00\\x48\\x03\\x03" + "a" * 32 + "\\x00\\x00\\x02\\x13\\x01\\x01\\x00"
        "\\x00\\x1d\\x00\\x00\\x00\\x13\\x00\\x11\\x00\\x00\\x0eok.example.org\\xfe\\x0d\\x00\\x02xx"
    )
    printed = await raw(daemon, hello, "ok.example.org:443")
    assert printed.endswith("\x15\x03\x03\x00\x02\x021")
    await daemon.wait_refusal("encrypted_hello", "ok.example.org")
    await daemon.allow("ok.example.org", encrypted_hello=True)
    printed = await raw(daemon, hello, "ok.example.org:443")
    assert "\x15\x03\x03\x00\x02\x021" not in printed  # It came to the server, which cannot do anything with it.


@pytest.mark.thorough
async def test_a_browser_hides_names(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Chromium sends the extension to every server: it is refused, and gets its page where the policy allows that."""
    if shutil.which("chromium") is None:
        pytest.skip("not installed: chromium")
    line = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--dump-dom"]
    line += ["--proxy-server=http://127.0.0.1:3128", f"--user-data-dir={tmp_path}", "https://ok.example.org/page"]
    await daemon.world.run(*line)
    await daemon.wait_refusal("encrypted_hello", "ok.example.org")
    await daemon.allow("ok.example.org", encrypted_hello=True)
    _, printed = await daemon.world.run(*line)
    assert '"path": "/page"' in printed, printed


async def test_a_denied_host(daemon: FakeDaemon) -> None:
    """A denied host is refused, though a rule or an open network would let it through."""
    await daemon.allow("ok.example.org", deny=["*.example.org"], open=True)
    assert "denied" in await curl(daemon, "http://ok.example.org/")
    await daemon.wait_refusal("denied", "ok.example.org")


async def test_an_open_network(daemon: FakeDaemon) -> None:
    """While everything is open, public hosts are reached without a rule."""
    await daemon.allow(open=True)
    status, printed = await daemon.world.run("curl", "-sS", "https://other.example.org/")
    assert status == 0, printed


async def test_nothing_but_the_proxy_is_there(daemon: FakeDaemon) -> None:
    """Without the proxy, a program in the agent reaches nothing: no address, no name, by no program."""
    plain = daemon.world.environment()
    for line in (
        f"curl -sS --max-time 5 https://{SERVER_4}/",
        f"curl -sS --max-time 5 'https://[{SERVER_6}]/'",
        "curl -sS --max-time 5 https://secret-way.example.org/",
        "curl -sS --max-time 5 http://10.9.0.1/",
        "git ls-remote git://secret-way.example.org/x",
    ):
        status, printed = await daemon.world.run(*shlex.split(line), environment=plain)
        assert status != 0, printed
    assert not [each for each in daemon.world.queries() if "secret-way" in each]


_ATTEMPTS = f"""
import errno, json, socket, sys
def attempt(family, kind, protocol, place, connects=False):
    try:
        with socket.socket(family, kind, protocol) as made:
            made.settimeout(5)
            made.connect(place) if connects else made.sendto(b"x" * 32, place)
        return "sent"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
inet, inet6, udp, raw = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, socket.SOCK_RAW
print(json.dumps({{
    "tcp": attempt(inet, socket.SOCK_STREAM, 0, ("{SERVER_4}", 443), True),
    "tcp on IPv6": attempt(inet6, socket.SOCK_STREAM, 0, ("{SERVER_6}", 443), True),
    "udp": attempt(inet, udp, 0, ("{DNS}", 53)),
    "udp on IPv6": attempt(inet6, udp, 0, ("{SERVER_6}", 443)),
    "multicast": attempt(inet, udp, 0, ("224.0.0.251", 5353)),
    "broadcast": attempt(inet, udp, 0, ("255.255.255.255", 67)),
    "raw": attempt(inet, raw, socket.IPPROTO_ICMP, ("{SERVER_4}", 0)),
    "raw on IPv6": attempt(inet6, raw, socket.IPPROTO_ICMPV6, ("{SERVER_6}", 0)),
    "abstract": attempt(socket.AF_UNIX, socket.SOCK_STREAM, 0, "\\0" + sys.argv[1], True),
    "abstract datagram": attempt(socket.AF_UNIX, udp, 0, "\\0" + sys.argv[1] + "-d"),
    "interfaces": [name for _, name in socket.if_nameindex()],
}}))
"""
"""Tries every kind of socket that could lead out; in these tests with all rights that a sealed agent could have."""


async def test_no_kind_of_socket_leads_out(daemon: FakeDaemon) -> None:
    """TCP, UDP, raw and abstract unix sockets reach neither the world nor the host, not even with all capabilities."""
    name = f"hive-world-{daemon.status.parent.name}"
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        stream.bind(f"\0{name}")
        stream.listen()
        datagrams.bind(f"\0{name}-d")
        status, printed = await daemon.world.run(sys.executable, "-c", _ATTEMPTS, name)
        assert status == 0, printed
        found = json.loads(printed)
        assert found.pop("interfaces") == ["lo"]
        unreached = ("ECONNREFUSED", "ENETUNREACH", "EACCES", "EADDRNOTAVAIL")
        assert {each: end for each, end in found.items() if end not in unreached} == {}, found
        assert found["tcp"] == found["udp"] == "ENETUNREACH"  # At once, and not after a time.
        for each in (stream, datagrams):
            each.setblocking(False)
        with pytest.raises(BlockingIOError):
            stream.accept()
        with pytest.raises(BlockingIOError):
            datagrams.recv(100)


async def test_hostile_requests(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Each request of the corpus is answered with a refusal, in one response, and leaves the proxy as it was."""
    await daemon.allow("example.org", limits={"connections_per_second": 1_000})
    requests = tmp_path / "requests"
    requests.write_text(json.dumps([data.decode("latin-1") for data in CORPUS.values()]))
    line = [sys.executable, "-m", "tests.helpers.network.many_program", str(requests)]
    status, printed = await daemon.world.run(*line, cwd=Path.cwd())
    assert status == 0, printed
    answers: list[str] = json.loads(printed)
    for name, answer in zip(CORPUS, answers, strict=True):
        assert answer.startswith(("HTTP/1.1 4", "HTTP/1.1 501 ")) and answer.count("HTTP/1.1 ") == 1, (name, answer)
    assert not [each for each in daemon.world.queries() if each.startswith("example.org")]
    await daemon.allow("ok.example.org")
    status, printed = await daemon.world.run("curl", "-sS", "https://ok.example.org/")
    assert status == 0, printed


async def test_a_second_client_hello_is_checked_too(daemon: FakeDaemon) -> None:
    """A client that names another server when the server asks for a second ClientHello is refused with an alert."""
    line = [sys.executable, "-m", "tests.helpers.network.retry_program", "ok.example.org", "other.example.org"]
    status, printed = await daemon.world.run(*line, cwd=Path.cwd())
    assert (status, printed) == (0, "asked for a second one\n15030300020231\n")
    packet = await daemon.wait_refusal("server_name", "ok.example.org")
    assert "other.example.org" in packet.detail
    line[-1] = "ok.example.org"
    status, printed = await daemon.world.run(*line, cwd=Path.cwd())
    assert status == 0 and "15030300020231" not in printed, printed


async def test_requests_in_pieces(daemon: FakeDaemon) -> None:
    """A second request behind the first one is not carried out, whatever it is."""
    first = "GET http://ok.example.org/first HTTP/1.1\\r\\nHost: ok.example.org\\r\\n\\r\\n"
    printed = await raw(
        daemon, first + "GET http://other.example.org/second HTTP/1.1\\r\\nHost: other.example.org\\r\\n\\r\\n"
    )
    assert printed.count("HTTP/1.1 ") == 1 and '"/first"' in printed
    chunked = (
        "POST http://ok.example.org/ HTTP/1.1\\r\\nHost: ok.example.org\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
    )
    printed = await raw(daemon, chunked + "3\\r\\nabc\\r\\n0\\r\\nX-Late: 1\\r\\n\\r\\n")
    assert printed.startswith("HTTP/1.1 400 ") and "trailers" in printed
    printed = await raw(daemon, chunked + "3;x=\\ny\\r\\nabc\\r\\n0\\r\\n\\r\\n")
    assert printed.startswith("HTTP/1.1 400 ")
    printed = await raw(daemon, chunked + "5\\r\\nabc\\r\\n0\\r\\n\\r\\nGET /")
    assert printed.startswith("HTTP/1.1 400 ")
    printed = await raw(daemon, chunked + "3\\r\\nabc\\r\\n0\\r\\n\\r\\n")
    assert '"body": "abc"' in printed and printed.startswith("HTTP/1.1 200 ")
