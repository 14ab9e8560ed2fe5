"""The remedies for a bubblewrap that does not work."""

from __future__ import annotations

import os
import threading

import pytest

from hive_core.runtimes import launcher


@pytest.mark.parametrize(
    ("problem", "missing", "words"),
    [
        ("bubblewrap is not installed", True, "install bubblewrap"),
        ("bwrap failed: bwrap: Can't mkdir parents for /tmp: Function not implemented", True, "RestrictSUIDSGID="),
        ("bwrap failed: bwrap: Can't mkdir parents for /tmp: Function not implemented", False, "network namespaces"),
        ("bwrap failed: bwrap: No permissions to create new namespace", True, "network namespaces"),
    ],
)
def test_the_remedy_fits_the_problem(monkeypatch: pytest.MonkeyPatch, problem: str, missing: bool, words: str) -> None:
    """The missing openat2(2) is named only where it is missing and the problem is a missing system call."""
    monkeypatch.setattr(launcher, "_lacks_openat2", lambda: missing)
    assert words in launcher.remedy(problem)


def test_the_id_of_a_thread_is_no_process() -> None:
    """A process id that belongs to a thread by now counts as ended, whatever error the kernel has for it."""
    identity, started, may_end = [0], threading.Event(), threading.Event()

    def run() -> None:
        identity[0] = threading.get_native_id()
        started.set()
        may_end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        with pytest.raises(OSError):
            os.pidfd_open(identity[0])
        assert launcher._hold(identity[0], parent=os.getppid()) is None
    finally:
        may_end.set()
        thread.join()
