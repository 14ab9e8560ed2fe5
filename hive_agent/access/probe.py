"""The program that `doctor --live` runs in an agent: it tries what a sealed agent must not reach, and reports.

It changes nothing. All tries are made at the same time, in threads, and each has a short time.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from hive_core.protocol.access.probe import TRY_SECONDS, BadProbe, Outcome, Tried, Try, decode_order, encode_report

_NO_WAY = frozenset(
    {
        *(errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES),
        *(errno.ENOENT, errno.ENOTDIR, errno.EPROTONOSUPPORT),
    }
)
"""Errors of this kernel, before anything is sent. A router answers with EHOSTUNREACH."""
_DNS_QUERY = bytes.fromhex("484901000001000000000000046869766507696e76616c69640000010001")
"""A question for the address of `hive.invalid`, which no name server knows."""
_MOST_ANSWER = 200
_MOST_HEAD = 4_096


def main(order: str, environment: Mapping[str, str]) -> int:
    """Try what the order says, and print the report. Returns the exit code."""
    try:
        token, tries = decode_order(order)
    except BadProbe as why:
        sys.stderr.write(f"{why}\n")
        return 2
    sys.stdout.write(encode_report(try_all(token, tries, environment)))
    sys.stdout.flush()
    return 0


def try_all(token: str, tries: Sequence[Try], environment: Mapping[str, str]) -> list[Tried]:
    """Make all tries at the same time; the outcomes are in their order."""
    with ThreadPoolExecutor(max(1, len(tries))) as threads:
        return list(threads.map(lambda each: _try(each, token, environment), tries))


def _try(wanted: Try, token: str, environment: Mapping[str, str]) -> Tried:
    try:
        if wanted.kind == "proxy":
            return _through_proxy(wanted, environment)
        if wanted.kind == "unix":
            address = f"\0{wanted.address[1:]}" if wanted.address.startswith("@") else wanted.address
            return _connected(socket.AF_UNIX, address, token)
        family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
        if wanted.kind == "udp":
            return _asked(family, (wanted.address, wanted.port))
        return _connected(family, (wanted.address, wanted.port), token)
    except TimeoutError:
        return Tried("silent", f"no answer in {TRY_SECONDS:g} s")
    except OSError as error:
        return Tried(_outcome(error), os.strerror(error.errno) if error.errno else str(error))


def _outcome(error: OSError) -> Outcome:
    if error.errno == errno.ECONNREFUSED:
        return "refused"
    return "blocked" if error.errno in _NO_WAY else "silent"


def _connected(family: socket.AddressFamily, address: str | tuple[str, int], token: str) -> Tried:
    """Connect, say the token, and return what the other side says within the time. Raises OSError."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(TRY_SECONDS)
        connection.connect(address)
        answer = b""
        try:
            connection.sendall(f"{token}\n".encode())
            answer = connection.recv(_MOST_ANSWER)
        except OSError:
            pass  # It was reached.
        return Tried("reached", answer=answer.decode("ascii", "replace"))


def _asked(family: socket.AddressFamily, address: tuple[str, int]) -> Tried:
    """Send a question to a name server. Raises OSError; TimeoutError where nobody answers."""
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.settimeout(TRY_SECONDS)
        connection.connect(address)
        connection.send(_DNS_QUERY)
        return Tried("reached", answer=f"{len(connection.recv(1_500))} bytes")


def _through_proxy(wanted: Try, environment: Mapping[str, str]) -> Tried:
    """Ask the proxy for a connection, and return the line with its status. Raises OSError."""
    proxy = urlsplit(environment.get("https_proxy", ""))
    if proxy.hostname is None or proxy.port is None:
        return Tried("blocked", "no proxy is set (https_proxy)")
    with socket.create_connection((proxy.hostname, proxy.port), TRY_SECONDS) as connection:
        target = f"{wanted.address}:{wanted.port}"
        connection.settimeout(4 * TRY_SECONDS)  # It looks the name up and connects.
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head, _, body = connection.recv(_MOST_HEAD).partition(b"\r\n\r\n")
        status, reason = (part.partition(b"\r\n")[0].decode("ascii", "replace") for part in (head, body))
        return Tried("reached" if status.split()[1:2] == ["200"] else "refused", status, reason.partition("\n")[0])
