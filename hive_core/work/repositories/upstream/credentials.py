"""The credential of a repository: a token for https, or a key for ssh."""

from __future__ import annotations

from typing import Protocol

from hive_core.errors import HiveError
from hive_core.protocol import CredentialKind
from hive_core.work.repositories.upstream.source import Source


class Credentials(Protocol):
    """What the registry needs of the credential store."""

    async def put(self, name: str, data: bytes) -> None: ...

    async def get(self, name: str) -> bytes | None: ...

    async def delete(self, name: str) -> object: ...


def credential_name(name: str) -> str:
    """Return the name under which a repository's credential is stored."""
    return f"repository-{name}"


def read_credential(
    source: Source | None, token: str | None, ssh_key: str | None
) -> tuple[CredentialKind, bytes | None]:
    """Return the kind and the bytes of a credential. Raises HiveError `bad_credential` for one that does not fit."""
    if token is None and ssh_key is None:
        return "none", None
    if token is not None and ssh_key is not None:
        raise HiveError("bad_credential", "a token and a key are given", hint="give one of them")
    if source is None:
        raise HiveError("bad_credential", "a repository that is read from a path needs no credential")
    if token is not None:
        text = token.strip()
        if source.scheme != "https":
            raise HiveError("bad_credential", "a token is for https URLs", hint="give --ssh-key FILE for this one")
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise HiveError(
                "bad_credential", "the token is not one word of ASCII characters", hint="give it without quotes"
            )
        return "token", f"{text}\n".encode()
    assert ssh_key is not None
    if source.scheme != "ssh":
        raise HiveError("bad_credential", "an SSH key is for ssh URLs", hint="give --token - for this one")
    if "PRIVATE KEY-----" not in ssh_key:
        hint = "give the file of the private key, which has no .pub at its end"
        raise HiveError("bad_credential", "that is no private SSH key", hint=hint)
    if "ENCRYPTED" in ssh_key.partition("\n\n")[0]:
        hint = "the hive cannot ask for a passphrase: make a key of its own for it, without one"
        raise HiveError("bad_credential", "the SSH key has a passphrase", hint=hint)
    return "ssh-key", (ssh_key.strip() + "\n").encode()
