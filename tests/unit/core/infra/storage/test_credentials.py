"""Credentials that rest encrypted: their keys, their files, and what happens on another host."""

from __future__ import annotations

import errno
import os
import stat
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.infra.storage import credential_keys, credentials
from hive_core.infra.storage.credential_keys import why_not_sealed
from hive_core.infra.storage.credentials import MAX_CREDENTIAL_BYTES, CredentialStore
from tests.unit.core.infra.storage.fake_systemd_creds import FakeSystemdCreds

SECRET = b"npm_AbCdEf0123456789"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystemdCreds:
    """A host on which systemd-creds works."""
    return FakeSystemdCreds(tmp_path / "host", monkeypatch)


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without systemd-creds."""
    monkeypatch.setattr("shutil.which", lambda _: None)


def _files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file()]


async def test_sealed_credential_is_read_by_the_next_daemon(tmp_path: Path, host: FakeSystemdCreds) -> None:
    """A credential is read by a later daemon of the same host, and neither it nor the key is on the disk."""
    store = CredentialStore(tmp_path / "credentials")
    await store.put("web.token", SECRET)
    assert await store.protection() == "systemd-creds"
    key = next(iter((await store._open()).values()))
    for path in _files(tmp_path / "credentials"):
        assert SECRET not in path.read_bytes()
        assert key.key not in path.read_bytes()
    later = CredentialStore(tmp_path / "credentials")
    assert await later.get("web.token") == SECRET
    assert await later.names() == ["web.token"]
    assert not any(SECRET.decode() in call for call in host.calls)


async def test_without_systemd_creds_the_key_is_a_private_file(tmp_path: Path, no_host: None) -> None:
    """Where systemd-creds does not work, the key is in a file of mode 0600 that nobody else can reach."""
    store = CredentialStore(tmp_path / "credentials")
    await store.put("web.token", SECRET)
    assert await store.protection() == "key-file"
    assert await CredentialStore(tmp_path / "credentials").get("web.token") == SECRET
    found = _files(tmp_path / "credentials")
    assert len(found) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    directories = [path for path in (tmp_path / "credentials").rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}


@pytest.mark.parametrize("mode", ["refuse", "forgets"])
async def test_sealing_that_cannot_be_undone_is_not_used(tmp_path: Path, host: FakeSystemdCreds, mode: str) -> None:
    """A key is sealed only if a trial shows that it can be opened again."""
    host.fail(mode)
    assert await why_not_sealed()
    store = CredentialStore(tmp_path / "credentials")
    await store.put("web.token", SECRET)
    assert await store.protection() == "key-file"


async def test_broken_tpm_leaves_the_host_key(tmp_path: Path, host: FakeSystemdCreds) -> None:
    """A TPM that cannot be used leaves the key of the host."""
    host.fail("no-tpm")
    store = CredentialStore(tmp_path / "credentials")
    await store.put("web.token", SECRET)
    assert await store.protection() == "systemd-creds"
    assert await why_not_sealed() == ""


async def test_hanging_systemd_creds_is_ended(
    tmp_path: Path, host: FakeSystemdCreds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A systemd-creds that does not end keeps nobody waiting longer than its time limit."""
    host.fail("hang")
    monkeypatch.setattr(credential_keys, "_SECONDS", 0.1)
    store = CredentialStore(tmp_path / "credentials")
    await store.put("web.token", SECRET)
    assert await store.get("web.token") == SECRET


async def test_key_in_a_file_is_sealed_later(
    tmp_path: Path, host: FakeSystemdCreds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was in a file is sealed by the first daemon that can, and its file goes."""
    host.fail("refuse")
    await CredentialStore(tmp_path / "credentials").put("web.token", SECRET)
    host.fail("")
    store = CredentialStore(tmp_path / "credentials")
    assert await store.get("web.token") == SECRET
    assert await store.protection() == "systemd-creds"
    assert [path.suffix for path in (tmp_path / "credentials" / "keys").iterdir()] == [".sealed"]
    assert await CredentialStore(tmp_path / "credentials").get("web.token") == SECRET


async def test_credentials_of_another_host_are_refused_and_replaced(tmp_path: Path, host: FakeSystemdCreds) -> None:
    """On another host old credentials are refused with the reason; new ones are stored, and the old ones stay."""
    store = CredentialStore(tmp_path / "credentials")
    await store.put("web.token", SECRET)
    await store.put("other.token", SECRET)
    host.use_host("second host")
    restored = CredentialStore(tmp_path / "credentials")
    with pytest.raises(HiveError) as caught:
        await restored.get("web.token")
    assert caught.value.code == "credential_unreadable"
    assert "encrypted with another key" in caught.value.message
    await restored.put("web.token", b"new")
    assert await restored.get("web.token") == b"new"
    assert await CredentialStore(tmp_path / "credentials").get("web.token") == b"new"
    assert len(list((tmp_path / "credentials" / "keys").iterdir())) == 2
    host.use_host("first host")
    assert await restored.get("other.token") == SECRET


async def test_files_cannot_take_each_others_place(tmp_path: Path, no_host: None) -> None:
    """A credential's file under the name of another one, a changed and a cut one are refused."""
    store = CredentialStore(tmp_path / "credentials")
    await store.put("a", SECRET)
    good = (tmp_path / "credentials" / "values" / "a").read_bytes()
    for bad in (good[:-1], good[:40], good[:20], b"", bytes([*good[:-1], good[-1] ^ 1])):
        (tmp_path / "credentials" / "values" / "a").write_bytes(bad)
        with pytest.raises(HiveError, match="cannot be decrypted"):
            await store.get("a")
    (tmp_path / "credentials" / "values" / "b").write_bytes(good)
    with pytest.raises(HiveError, match="cannot be decrypted"):
        await store.get("b")


async def test_removed_credential_is_gone(tmp_path: Path, no_host: None) -> None:
    """A removal takes the file at once, and says whether there was one."""
    store = CredentialStore(tmp_path / "credentials")
    assert await store.names() == []
    assert await store.get("a") is None
    await store.put("a", SECRET)
    assert await store.delete("a")
    assert not await store.delete("a")
    assert await store.get("a") is None
    assert list((tmp_path / "credentials" / "values").iterdir()) == []


async def test_link_in_the_directory_is_not_followed(tmp_path: Path, no_host: None) -> None:
    """A link in the place of a credential is neither listed nor read, and a new credential replaces it."""
    store = CredentialStore(tmp_path / "credentials")
    await store.put("a", SECRET)
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "credentials" / "values" / "b").symlink_to(tmp_path / "secret")
    assert await store.names() == ["a"]
    with pytest.raises(HiveError, match="Too many levels of symbolic links"):
        await store.get("b")
    await store.put("b", SECRET)
    assert (tmp_path / "secret").read_bytes() == b"x"
    assert await store.get("b") == SECRET


async def test_bounds(tmp_path: Path, no_host: None) -> None:
    """The largest credential is stored, a larger one and bad names are refused."""
    store = CredentialStore(tmp_path / "credentials")
    largest = os.urandom(MAX_CREDENTIAL_BYTES)
    await store.put("a", largest)
    assert await store.get("a") == largest
    with pytest.raises(HiveError) as caught:
        await store.put("a", largest + b"x")
    assert caught.value.code == "credential_too_large"
    for name in ("", ".a", "../a", "a/b", "a\n", "a b", "x" * 129, "-a"):
        with pytest.raises(HiveError, match="the name of a credential"):
            await store.put(name, b"")


async def test_full_disk_keeps_the_old_value(tmp_path: Path, no_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told without the value, in no traceback either, and the credential stays as it was."""
    store = CredentialStore(tmp_path / "credentials")
    await store.put("a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HiveError) as caught:
        await store.put("a", SECRET)
    assert caught.value.code == "disk_full"
    assert SECRET.decode() not in "".join(traceback.format_exception(caught.value))
    assert await store.get("a") == b"old"
    assert [path.name for path in (tmp_path / "credentials" / "values").iterdir()] == ["a"]


@settings(max_examples=30, deadline=None)
@given(name=st.from_regex(credentials._NAME, fullmatch=True), data=st.binary(max_size=2_000))
def test_every_value_comes_back_under_its_name_only(name: str, data: bytes) -> None:
    """Any bytes come back as they were under their name and key, and under no other."""
    key = credential_keys.CredentialKey("0" * 16, bytes(32), "key-file")
    content = credentials._encrypt(key, name, data)
    assert credentials._decrypt(key, name, content) == data
    assert credentials._decrypt(key, name + "x", content) is None
    assert (
        credentials._decrypt(credential_keys.CredentialKey("0" * 16, bytes([1] * 32), "key-file"), name, content)
        is None
    )
