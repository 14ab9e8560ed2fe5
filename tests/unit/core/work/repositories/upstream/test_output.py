"""The progress of a transfer."""

from __future__ import annotations

from hive_core.work.repositories.upstream.output import progress_of


def test_progress_is_the_last_of_git() -> None:
    """The last line of progress counts, in the hive's words."""
    text = "Receiving objects:   1% (1/100)\rReceiving objects:  45% (45/100), 12.00 MiB | 2.00 MiB/s\r"
    assert progress_of(text) == "receiving 45 % (45 of 100 objects, 12.00 MiB)"


def test_an_upstream_cannot_write_progress() -> None:
    """Lines of the server are marked by git, and count for nothing."""
    assert progress_of("remote: Receiving objects:  99% (99/100)\rremote: x\n") == ""
