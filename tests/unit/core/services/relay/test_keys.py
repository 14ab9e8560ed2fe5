"""The vendors' keys."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hive_core.services.relay.keys import KeyDirectory, KeyUnusable, VendorKey, in_order
from hive_core.services.relay.main import find_credentials

KEY = "sk-the-real-key-0123456789"


def write(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize("content", [KEY.encode(), KEY.encode() + b"\n", KEY.encode() + b"\r\n"])
def test_a_key_is_one_line(tmp_path: Path, content: bytes) -> None:
    """The end of the line is no part of the key."""
    write(tmp_path / "key", content, 0o600)
    assert KeyDirectory(tmp_path).read("key").reveal() == KEY


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\nb", b"\xff", "ä".encode(), b"a" * 20_000, b"a\0b"])
def test_other_contents_are_refused(tmp_path: Path, content: bytes) -> None:
    """What could not stand in a header is no key, and the reason does not repeat it."""
    write(tmp_path / "key", content, 0o600)
    with pytest.raises(KeyUnusable) as refused:
        KeyDirectory(tmp_path).read("key")
    assert "credential key" in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "plain", "of_systemd"),
    [(0o600, True, True), (0o400, True, True), (0o440, False, True), (0o644, False, False), (0o604, False, False),
     (0o620, False, False), (0o460, False, False), (0o700, True, True)],
)  # fmt: skip
def test_others_must_not_read_it(tmp_path: Path, mode: int, plain: bool, of_systemd: bool) -> None:
    """A file that others can read is refused; in systemd's own directory the group stands for the unit's user."""
    write(tmp_path / "key", KEY.encode(), mode)
    for directory, usable in ((KeyDirectory(tmp_path), plain), (KeyDirectory(tmp_path, of_systemd=True), of_systemd)):
        if usable:
            assert directory.read("key").reveal() == KEY
        else:
            with pytest.raises(KeyUnusable):
                directory.read("key")


def test_only_files_are_read(tmp_path: Path) -> None:
    """Links, directories and pipes are refused at once."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "directory")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("directory", "link", "pipe", "missing"):
        with pytest.raises(KeyUnusable):
            KeyDirectory(tmp_path).read(name)


def test_a_key_is_in_no_text() -> None:
    """Neither the object nor what holds it shows the key."""
    key = VendorKey("name", KEY)
    assert KEY not in f"{key} {key!r} {[key]} {vars(type(key))}"


def test_the_directory_is_systemds_by_default() -> None:
    """Keys are where the option says, or else where systemd has put them."""
    environment = {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}
    assert find_credentials(environment, None) == KeyDirectory(Path("/run/credentials/x"), of_systemd=True)
    assert find_credentials(environment, Path("/keys")) == KeyDirectory(Path("/keys"))
    assert find_credentials({}, None) is None


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("3", 3, 3), (None, 5, 5), ("soon", 5, 5), ("nan", 5, 5), ("-9", 1, 1), ("1e9", 300, 300), ("inf", 300, 300)],
)
async def test_a_limited_key_waits(asked: str | None, least: float, most: float) -> None:
    """A key at its limit is tried last for as long as the vendor asks, within bounds."""
    first, second = VendorKey("first", "a"), VendorKey("second", "b")
    first.pause(asked)
    left = first.paused_until - asyncio.get_running_loop().time()
    assert least - 1 < left <= most
    assert in_order([first, second]) == [second, first]
    first.paused_until = 0
    assert in_order([first, second]) == [first, second]
