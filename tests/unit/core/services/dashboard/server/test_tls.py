"""The certificate of the dashboard."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.services.dashboard.server.tls import Certificate


def write_pair(place: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a name, in the usual two files of a folder."""
    certificate, key = place / "cert.pem", place / "key.pem"
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    line += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run(line, check=True, capture_output=True)
    return certificate, key


async def served_certificate(context: ssl.SSLContext) -> str:
    """Return the certificate that a new connection is shown."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    try:
        return await asyncio.to_thread(ssl.get_server_certificate, server.sockets[0].getsockname())
    finally:
        server.close()


async def test_a_changed_certificate_is_taken_up(tmp_path: Path) -> None:
    """New connections get the new certificate when the files have changed; one without its key changes nothing."""
    certificate = Certificate(*write_pair(tmp_path, "old"))
    following = asyncio.create_task(certificate.follow(asyncio.Event(), pause=0.01))
    old = await served_certificate(certificate.context)
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(HiveError):
        certificate.read()
    assert await served_certificate(certificate.context) == old
    write_pair(tmp_path, "new")
    while await served_certificate(certificate.context) == old:
        await asyncio.sleep(0.01)
    following.cancel()


async def test_a_signal_reads_the_files_at_once(tmp_path: Path) -> None:
    """A SIGHUP, which sets the event, does not wait for the next look."""
    certificate, reread = Certificate(*write_pair(tmp_path, "old")), asyncio.Event()
    following = asyncio.create_task(certificate.follow(reread, pause=3600))
    old = await served_certificate(certificate.context)
    write_pair(tmp_path, "new")
    reread.set()
    while await served_certificate(certificate.context) == old:
        await asyncio.sleep(0.01)
    following.cancel()


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """A file that is missing, or a key of another certificate, ends the start with the name of the files."""
    with pytest.raises(HiveError, match="No such file"):
        Certificate(tmp_path / "none.pem", tmp_path / "key.pem")
    certificate, key = write_pair(tmp_path, "one")
    kept = key.read_text()
    write_pair(tmp_path, "two")
    key.write_text(kept)
    with pytest.raises(HiveError, match=str(certificate)):
        Certificate(certificate, key)
