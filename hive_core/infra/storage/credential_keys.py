"""The keys of credentials: sealed by systemd to this host where that works, else in files that only the daemon reads.

systemd-creds(1) encrypts a key with a key of the host's (`/var/lib/systemd/credential.secret`), and with the TPM where
there is one. Only the key is sealed this way, because programs of systemd accept no larger secrets than 1 MiB in
base64, and because a process for each credential would be slow.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from hive_core.infra.processes import Command, describe_exit, read_all, spawn
from hive_core.infra.storage.files import read_bytes, replace_bytes, sync

log = structlog.get_logger(__name__)

Protection = Literal["systemd-creds", "key-file"]
"""The protection of a key: encrypted to this host by systemd-creds, or a file of mode 0600 with the key itself."""

KEY_BYTES = 32
_SEALED = ".sealed"
_PLAIN = ".key"
_NAME = "hyperhive-credentials"
"""The name that is encrypted together with the key: systemd-creds refuses to decrypt it under another one."""
_SECONDS = 20.0
"""Time limit of systemd-creds, which a broken TPM can keep waiting."""
_MOST_OUTPUT = 64 * 1024


@dataclass(frozen=True)
class CredentialKey:
    """A key and its identifier, which is derived from it."""

    identifier: str
    key: bytes
    protection: Protection

    def __repr__(self) -> str:
        return f"CredentialKey({self.identifier!r}, {self.protection!r})"


@dataclass(frozen=True)
class KeyProblem:
    """A key that cannot be used on this host, and the reason."""

    identifier: str
    reason: str


def identify(key: bytes) -> str:
    """Return the identifier of a key, from which nobody learns the key."""
    return hashlib.sha256(b"hyperhive credential key\0" + key).hexdigest()[:16]


async def open_keys(directory: Path) -> tuple[list[CredentialKey], list[KeyProblem]]:
    """Read the keys in a directory, the newest last, and say which of them cannot be used. Raises OSError."""
    keys: list[CredentialKey] = []
    problems: list[KeyProblem] = []
    for path in _key_files(directory):
        content = read_bytes(path, _MOST_OUTPUT)
        protection: Protection = "systemd-creds" if path.suffix == _SEALED else "key-file"
        opened = await _systemd_creds("decrypt", content) if protection == "systemd-creds" else content
        if isinstance(opened, str):
            problems.append(KeyProblem(path.stem, opened))
        elif len(opened) != KEY_BYTES or identify(opened) != path.stem:
            problems.append(KeyProblem(path.stem, "its file is damaged"))
        else:
            keys.append(CredentialKey(path.stem, opened, protection))
    return keys, problems


async def create_key(directory: Path) -> CredentialKey:
    """Create a key in a directory, sealed where this host can do so, else in a file of mode 0600. Raises OSError."""
    key = secrets.token_bytes(KEY_BYTES)
    identifier = identify(key)
    sealed = await _seal(key)
    if isinstance(sealed, str):
        log.info("credentials are encrypted with a key in a file", reason=sealed)
        replace_bytes(directory / f"{identifier}{_PLAIN}", key, 0o600, durable=True)
        return CredentialKey(identifier, key, "key-file")
    replace_bytes(directory / f"{identifier}{_SEALED}", sealed, 0o600, durable=True)
    return CredentialKey(identifier, key, "systemd-creds")


async def seal_key(directory: Path, key: CredentialKey) -> CredentialKey:
    """Seal a key that is in a file, if this host can do so now, and remove the file. Raises OSError."""
    sealed = await _seal(key.key)
    if isinstance(sealed, str):
        return key
    replace_bytes(directory / f"{key.identifier}{_SEALED}", sealed, 0o600, durable=True)
    (directory / f"{key.identifier}{_PLAIN}").unlink(missing_ok=True)
    sync(directory)
    return CredentialKey(key.identifier, key.key, "systemd-creds")


async def why_not_sealed() -> str:
    """Return the reason why this host seals no keys; "" if a trial key was sealed and opened again."""
    sealed = await _seal(secrets.token_bytes(KEY_BYTES))
    return sealed if isinstance(sealed, str) else ""


async def _seal(key: bytes) -> bytes | str:
    """Return a key encrypted by systemd-creds and decrypted again for a trial, or the reason why that failed."""
    if os.geteuid() != 0:
        return "only root may use the host's key"
    reason = ""
    # `auto` takes the TPM and the host's key, and fails with a TPM that cannot be used.
    for kind in ("auto", "host"):
        sealed = await _systemd_creds("encrypt", key, f"--with-key={kind}")
        reason = sealed if isinstance(sealed, str) else await _why_not_opened(sealed, key)
        if isinstance(sealed, bytes) and not reason:
            return sealed
    return reason


async def _why_not_opened(sealed: bytes, key: bytes) -> str:
    opened = await _systemd_creds("decrypt", sealed)
    if isinstance(opened, str):
        return opened
    return "" if opened == key else "systemd-creds decrypted something else than it had encrypted"


async def _systemd_creds(verb: Literal["encrypt", "decrypt"], content: bytes, *options: str) -> bytes | str:
    """Return the output of systemd-creds, or the reason why there is none. The content is in no argument."""
    program = shutil.which("systemd-creds")
    if program is None:
        return "systemd-creds is not installed"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    line = [program, verb, f"--name={_NAME}", *options, "-", "-"]
    given = os.memfd_create("credential", os.MFD_CLOEXEC)
    printed = os.memfd_create("credential", os.MFD_CLOEXEC)
    try:
        os.write(given, content)
        os.lseek(given, 0, os.SEEK_SET)
        child = spawn(Command(line, environment, Path("/"), stdin=given, stdout=printed))
        try:
            async with asyncio.timeout(_SECONDS):
                said = await read_all(child.output, _MOST_OUTPUT)
                status = await child.wait()
        finally:
            await child.end()
        if status != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            return f"systemd-creds: {lines[-1][:300]}" if lines else f"systemd-creds: {describe_exit(status)}"
        return os.pread(printed, _MOST_OUTPUT, 0)
    except TimeoutError:
        return f"systemd-creds took longer than {_SECONDS:g} s"
    except OSError as error:
        return f"systemd-creds cannot be started: {error.strerror}"
    finally:
        os.close(given)
        os.close(printed)


def _key_files(directory: Path) -> list[Path]:
    """Return the files of keys, the newest last; of a key that is sealed and in a file, only the sealed one."""
    try:
        found = [path for path in directory.iterdir() if path.suffix in (_SEALED, _PLAIN)]
    except FileNotFoundError:
        return []
    sealed = {path.stem for path in found if path.suffix == _SEALED}
    kept = [path for path in found if path.suffix == _SEALED or path.stem not in sealed]
    return sorted(kept, key=lambda path: (path.stat().st_mtime_ns, path.name))
