"""A fake of the service where Claude Code logs in, behind a proxy that leads every name to it.

It answers as the service does: a code becomes tokens once, and a token tells whose it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CODE = "the-code"
TOKEN = "sk-ant-oat01-of-the-fake"
_NAMES = ("claude.ai", "*.claude.ai", "claude.com", "*.claude.com", "anthropic.com", "*.anthropic.com")
_ACCOUNT = "11111111-1111-4111-8111-111111111111"
_ORGANIZATION = "21111111-1111-4111-8111-111111111111"


@dataclass
class LoginServer:
    """`variables` are what a program needs to come here instead of to the real service."""

    variables: dict[str, str]
    asked: list[str] = field(default_factory=list)

    def code_for(self, url: str, code: str = CODE) -> str:
        """What the page at `url` shows to a person who has logged in there."""
        return f"{code}#{parse_qs(urlsplit(url).query)['state'][0]}"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.host} {request.path}")
        if request.path.endswith("/oauth/token"):
            if (await request.json())["code"] != CODE:
                return web.json_response({"error": "invalid_grant"}, status=400)
            account = {"uuid": _ACCOUNT, "email_address": "a@example.org"}
            organization = {"uuid": _ORGANIZATION, "name": "o"}
            return web.json_response(
                {
                    "access_token": TOKEN,
                    "refresh_token": "sk-ant-ort01-of-the-fake",
                    "expires_in": 28_800,
                    "token_type": "Bearer",
                    "scope": "user:inference user:profile",
                    "account": account,
                    "organization": organization,
                }
            )
        if request.path.endswith("/oauth/profile"):
            account = {"uuid": _ACCOUNT, "email": "a@example.org", "display_name": "A"}
            organization = {"uuid": _ORGANIZATION, "organization_type": "claude_pro"}
            return web.json_response({"account": account, "organization": organization})
        return web.json_response({}, status=404)


@asynccontextmanager
async def login_server(directory: Path) -> AsyncIterator[LoginServer]:
    """Serve on loopback. `directory` gets the certificate, which is trusted through `variables` alone."""
    context = _certificate(directory)
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    server = LoginServer({"NODE_EXTRA_CA_CERTS": str(directory / "certificate.pem"), "NO_PROXY": "127.0.0.1"})
    app.router.add_route("*", "/{path:.*}", server.answer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port = runner.addresses[0][1]

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    server.variables["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        proxy.close()
        await runner.cleanup()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def _certificate(directory: Path) -> ssl.SSLContext:
    """A certificate of a key that is made for this run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake")])
    now = datetime.now(UTC)
    names = [*map(x509.DNSName, _NAMES), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(secret)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return context
