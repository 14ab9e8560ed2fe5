"""The certificate of the dashboard, which is read again when its files have changed."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from hive_core.errors import HiveError

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 30.0


class Certificate:
    """A certificate with its chain and its key, in two files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises `bad_certificate`."""
        self._files = (certificate, key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._read_at: object = None
        self.read()

    def read(self) -> None:
        """Read the files; new connections then have what they say. Raises `bad_certificate`, and goes on as before."""
        certificate, key = self._files
        version = self._version()
        try:
            # A context of its own first: a key that does not fit would stay in one that is used.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            hint = "both are PEM; the first holds the certificate and after it the chain"
            why = f"{certificate} and {key} cannot be used: {error.strerror or error}"
            raise HiveError("bad_certificate", why, hint=hint) from None
        finally:
            self._read_at = version

    async def follow(self, reread: asyncio.Event, pause: float = _LOOK_SECONDS) -> None:
        """Read the files again when they have changed, and whenever `reread` is set, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(pause):
                    await reread.wait()
            except TimeoutError:
                if self._version() == self._read_at:
                    continue
            reread.clear()
            try:
                self.read()
            except HiveError as error:
                log.error("the certificate stays as it was", why=error.message)
            else:
                log.info("certificate read")

    def _version(self) -> object:
        found: list[tuple[int, int, int] | None] = []
        for file in self._files:
            try:
                state = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((state.st_ino, state.st_mtime_ns, state.st_size))
        return found
