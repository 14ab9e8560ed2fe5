"""Hashes of passwords: their parameters and their bounded number."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type
from pydantic import SecretStr, TypeAdapter, ValidationError

from hive_core.people.passwords import AT_ONCE, WAITING, Passwords, TooManyPasswords
from hive_core.protocol.people.passwords import NewPassword
from tests.unit.core.people.people_hive import PASSWORD


class SlowHasher:
    """Compares nothing until it is let go, and counts what is under way."""

    memory_cost = time_cost = parallelism = 1

    def __init__(self) -> None:
        self.go = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def hash(self, _: bytes) -> str:
        return "stored"

    def verify(self, _stored: str, _content: bytes) -> bool:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.go.wait(20)
        with self._lock:
            self.running -= 1
        return True


@pytest.fixture
def hasher() -> Iterator[SlowHasher]:
    slow = SlowHasher()
    yield slow
    slow.go.set()


async def test_hashes_are_of_argon2id() -> None:
    """A real hash has the parameters that RFC 9106 recommends, and is that of its password only."""
    passwords = Passwords()
    stored = await passwords.hash(PASSWORD, "x")
    parameters = extract_parameters(stored)
    assert (parameters.type, parameters.memory_cost, parameters.time_cost) == (Type.ID, 64 * 1024, 3)
    assert await passwords.is_right(stored, PASSWORD, "x", trusted=False)
    assert not await passwords.is_right(stored, PASSWORD + " ", "x", trusted=False)
    assert not await passwords.is_right(None, PASSWORD, "x", trusted=False)


async def test_a_flood_is_bounded(hasher: SlowHasher) -> None:
    """Of a thousand passwords from as many addresses, 2 are hashed at a time, 32 wait, and the rest is refused."""
    passwords = Passwords(hasher)  # type: ignore[arg-type]
    flood = [
        asyncio.create_task(passwords.is_right("stored", PASSWORD, f"address {number}", trusted=False))
        for number in range(1_000)
    ]
    refused, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_EXCEPTION, timeout=10)
    while len(refused) < 1_000 - WAITING - AT_ONCE:
        refused, _ = await asyncio.wait(flood, timeout=0.01)
    assert all(isinstance(task.exception(), TooManyPasswords) for task in refused)
    known = asyncio.create_task(passwords.is_right("stored", PASSWORD, "known ada", trusted=True))
    hasher.go.set()
    assert await known, "a person at a known address is not refused"
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(result is True for result in results) == WAITING + AT_ONCE
    assert hasher.most <= AT_ONCE


async def test_hanging_up_frees_nothing_early(hasher: SlowHasher) -> None:
    """Callers that hang up do not let more hashes be made side by side."""
    passwords = Passwords(hasher)  # type: ignore[arg-type]
    for number in range(20):
        task = asyncio.create_task(passwords.is_right("stored", PASSWORD, f"address {number}", trusted=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    last = asyncio.create_task(passwords.is_right("stored", PASSWORD, "last", trusted=True))
    await asyncio.sleep(0.05)
    assert not last.done()
    hasher.go.set()
    assert await last
    assert hasher.most <= AT_ONCE


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("1234567", "at least 8 bytes"),
        ("12345678", ""),
        ("\U0001f41d\U0001f41d", ""),
        (" " * 8, ""),
        ("\0" * 8, ""),
        ("x" * 1_024, ""),
        ("x" * 1_025, "1,024"),
        ("\u00e4" * 513, "at most 1024 bytes"),
        ("\ud800" * 8, "Unicode"),
    ],
)
def test_lengths_of_passwords(password: str, fault: str) -> None:
    """A password has 8 to 1,024 bytes of any characters; an error says nothing of it."""
    adapter = TypeAdapter[SecretStr](NewPassword)
    if not fault:
        assert adapter.validate_python(password).get_secret_value() == password
        return
    with pytest.raises(ValidationError) as refusal:
        adapter.validate_python(password)
    (error,) = refusal.value.errors(include_input=False)
    assert fault.replace(",", "") in error["msg"].replace(",", "")
    assert password not in error["msg"]
