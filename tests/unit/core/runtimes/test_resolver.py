"""The copy of the host's resolv.conf: it follows files, links and their targets."""

from __future__ import annotations

from pathlib import Path

from hive_core.runtimes.resolver import HostResolver


def test_every_kind_of_change_is_followed(tmp_path: Path) -> None:
    """A file that is written anew or replaced, a link to another file, a target that is replaced, and none at all."""
    source, copy = tmp_path / "etc", tmp_path / "dns/resolv.conf"
    copy.parent.mkdir()
    resolver = HostResolver(copy.parent, source)
    assert resolver.copy() and copy.read_text() == ""
    source.write_text("nameserver 1.1.1.1\n")
    assert resolver.copy() and copy.read_text() == "nameserver 1.1.1.1\n"
    assert not resolver.copy()
    (tmp_path / "new").write_text("nameserver 2.2.2.2\n")
    (tmp_path / "new").replace(source)
    assert resolver.copy() and copy.read_text() == "nameserver 2.2.2.2\n"
    source.unlink()
    (tmp_path / "stub").write_text("nameserver 127.0.0.53\n")
    source.symlink_to(tmp_path / "stub")
    assert resolver.copy() and copy.read_text() == "nameserver 127.0.0.53\n"
    (tmp_path / "new").write_text("nameserver 3.3.3.3\n")
    (tmp_path / "new").replace(tmp_path / "stub")
    assert resolver.copy() and copy.read_text() == "nameserver 3.3.3.3\n"
    source.unlink()
    assert resolver.copy() and copy.read_text() == ""


def test_a_reader_of_the_directory_never_sees_half_a_file(tmp_path: Path) -> None:
    """The copy is replaced by a rename, so that one that is open stays whole."""
    (tmp_path / "etc").write_text("nameserver 1.1.1.1\n")
    resolver = HostResolver(tmp_path, tmp_path / "etc")
    resolver.copy()
    with (tmp_path / "resolv.conf").open() as old:
        (tmp_path / "etc").write_text("nameserver 22.22.22.22\n")
        assert resolver.copy()
        assert old.read() == "nameserver 1.1.1.1\n"
    assert (tmp_path / "resolv.conf").stat().st_mode & 0o777 == 0o644
