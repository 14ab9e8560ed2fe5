"""Credentials that rest encrypted in a directory that only the daemon can enter.

Each credential is a file of its own, encrypted with AES-256-GCM together with its name, so that no file can take the
place of another. `credential_keys` says where the key is.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from hive_core.errors import HiveError, bad_request
from hive_core.infra.concurrency.threads import CREDENTIALS
from hive_core.infra.storage.credential_keys import (
    CredentialKey,
    KeyProblem,
    Protection,
    create_key,
    open_keys,
    seal_key,
)
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space
from hive_core.infra.storage.files import read_bytes, replace_bytes, sync

log = structlog.get_logger(__name__)
T = TypeVar("T")

MAX_CREDENTIAL_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAGIC = b"hive-credential-1"
_HEADER = re.compile(rb"hive-credential-1 ([0-9a-f]{16})\n")
_HEADER_BYTES = len(_MAGIC) + 1 + 16 + 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MOST_FILE_BYTES = _HEADER_BYTES + _NONCE_BYTES + MAX_CREDENTIAL_BYTES + _TAG_BYTES


@dataclass(frozen=True)
class StoredCredential:
    """The name of a credential, and the time of its last change in seconds since 1970."""

    name: str
    changed_at: float


class CredentialStore:
    """Credentials by name. The directory is created, and the key opened, when they are first needed.

    Names have 1 to 128 letters, digits, `_`, `-` and `.`, and credentials at most 1 MiB. All methods raise HiveError:
    `disk_full`; `credentials_unusable` if the directory cannot be read or written.
    """

    def __init__(self, directory: Path) -> None:
        self._values = directory / "values"
        self._keys = directory / "keys"
        self._opened: dict[str, CredentialKey] | None = None
        self._current: CredentialKey | None = None
        self._problems: list[KeyProblem] = []
        self._lock = asyncio.Lock()

    async def put(self, name: str, data: bytes) -> None:
        """Store a credential durably, in place of the one of this name. Raises `credential_too_large`."""
        _check_name(name)
        if len(data) > MAX_CREDENTIAL_BYTES:
            what = f"a credential may have {MAX_CREDENTIAL_BYTES} bytes, and this one has {len(data)}"
            raise HiveError("credential_too_large", what, hint="give one that is smaller", status=413)
        async with self._lock:
            key = await self._key_for_writing()
            content = await CREDENTIALS.run(_encrypt, key, name, data)
            await self._on_disk("store a credential", replace_bytes, self._values / name, content, 0o600, durable=True)

    async def get(self, name: str) -> bytes | None:
        """Return a credential; None if there is none of this name. Raises `credential_unreadable`."""
        _check_name(name)
        path = self._values / name
        content = await self._on_disk("read a credential", _read_if_exists, path)
        if content is None:
            return None
        header = _HEADER.match(content)
        if header is None or len(content) > _MOST_FILE_BYTES:
            raise _unreadable(name, "its file is damaged")
        identifier = header[1].decode()
        async with self._lock:
            keys = await self._open(identifier)
        if identifier not in keys:
            reasons = [each.reason for each in self._problems if each.identifier == identifier]
            raise _unreadable(name, f"its key cannot be used on this host ({(reasons or ['it is gone'])[0]})")
        data = await CREDENTIALS.run(_decrypt, keys[identifier], name, content)
        if data is None:
            raise _unreadable(name, "its file is damaged")
        return data

    async def delete(self, name: str) -> bool:
        """Remove a credential at once; return False if there is none of this name."""
        _check_name(name)
        async with self._lock:
            return await self._on_disk("remove a credential", _remove, self._values / name)

    async def names(self) -> list[str]:
        """Return the names of all credentials, in order."""
        return [each.name for each in await self.entries()]

    async def entries(self) -> list[StoredCredential]:
        """Return the names of all credentials with the times of their last change, in order of the names."""
        return await self._on_disk("list the credentials", _list, self._values)

    async def protection(self) -> Protection | None:
        """Return what protects the key that is used for new credentials; None if there is none yet."""
        async with self._lock:
            await self._open()
        return self._current.protection if self._current is not None else None

    async def _key_for_writing(self) -> CredentialKey:
        await self._on_disk("store a credential", _make_directories, self._keys, self._values)
        keys = await self._open()
        if self._current is None:
            self._current = await self._attempt("store a key", create_key(self._keys))
            keys[self._current.identifier] = self._current
        return self._current

    async def _open(self, wanted: str = "") -> dict[str, CredentialKey]:
        """Return the keys that can be used here. The caller must hold the lock.

        They are read once, and again if the `wanted` one could not be used before: a TPM can be ready later.
        """
        if self._opened is None or any(problem.identifier == wanted for problem in self._problems):
            keys, self._problems = await self._attempt("read the keys of credentials", open_keys(self._keys))
            for problem in self._problems:
                log.warning("key of credentials cannot be used", key=problem.identifier, reason=problem.reason)
            if keys and keys[-1].protection == "key-file":
                keys[-1] = await self._attempt("seal a key", seal_key(self._keys, keys[-1]))
            self._opened = {key.identifier: key for key in keys}
            self._current = keys[-1] if keys else None
        return self._opened

    async def _attempt(self, action: str, work: Awaitable[T]) -> T:
        try:
            return await work
        except OSError as error:
            raise _refusal(action, error) from None

    async def _on_disk(self, action: str, function: Callable[..., T], /, *arguments: object, **named: object) -> T:
        return await self._attempt(action, CREDENTIALS.run(function, *arguments, **named))


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise bad_request("the name of a credential has 1 to 128 letters, digits, `_`, `-` and `.`")


def _refusal(action: str, error: OSError) -> HiveError:
    if is_lack_of_space(error):
        return disk_full(action)
    what = f"cannot {action}: {os.strerror(error.errno or 0)}"
    return HiveError(
        "credentials_unusable", what, hint="see the directory `credentials` of the state directory", status=500
    )


def _unreadable(name: str, reason: str) -> HiveError:
    return HiveError(
        "credential_unreadable",
        f"the credential {name} cannot be decrypted: {reason}",
        hint="store it anew",
        status=500,
    )


def _make_directories(*directories: Path) -> None:
    for directory in directories:
        if not directory.is_dir():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(directory.parent)


def _encrypt(key: CredentialKey, name: str, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - few daemons keep credentials

    header = _MAGIC + b" " + key.identifier.encode() + b"\n"
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return header + nonce + AESGCM(key.key).encrypt(nonce, data, header + name.encode())


def _decrypt(key: CredentialKey, name: str, content: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - few daemons keep credentials
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    header, rest = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
    try:
        return AESGCM(key.key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + name.encode())
    except (InvalidTag, ValueError):  # ValueError: the file was cut.
        return None


def _read_if_exists(path: Path) -> bytes | None:
    try:
        return read_bytes(path, _MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        return None


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync(path.parent)
    return True


def _list(values: Path) -> list[StoredCredential]:
    found = []
    try:
        with os.scandir(values) as entries:
            for entry in entries:
                # Files that a crash has left while they were written have names that begin with a dot.
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append(StoredCredential(entry.name, entry.stat(follow_symlinks=False).st_mtime))
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda each: each.name)
