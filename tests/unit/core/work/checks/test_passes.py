"""The memory of checks that have passed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hive_core.work.checks.passes import KEPT_DAYS, CheckPasses


def test_a_pass_is_known_until_it_is_old(tmp_path: Path) -> None:
    """A pass is remembered over restarts, and an old one is forgotten when the next is added."""
    passes = CheckPasses(tmp_path / "work/passed")
    assert not passes.has("old")
    passes.add("old")
    assert CheckPasses(tmp_path / "work/passed").has("old")
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    os.utime(tmp_path / "work/passed/old", (long_ago, long_ago))
    passes.add("new")
    assert (passes.has("old"), passes.has("new")) == (False, True)


def test_a_pass_belongs_to_all_that_it_depends_on() -> None:
    """Another tree, command, closure or repository has another pass, however the words are cut."""
    keys = {
        CheckPasses.key("t", ["make", "a b"], "c", "web"),
        CheckPasses.key("u", ["make", "a b"], "c", "web"),
        CheckPasses.key("t", ["make", "a", "b"], "c", "web"),
        CheckPasses.key("t", ["make", "a b"], "d", "web"),
        CheckPasses.key("t", ["make", "a b"], "c", "api"),
    }
    assert len(keys) == 5
    assert CheckPasses.key("t", ["make", "a b"], "c", "web") in keys


def test_no_room_loses_only_the_memory(tmp_path: Path) -> None:
    """A pass that cannot be written is not an error."""
    (tmp_path / "work").write_text("in the way")
    passes = CheckPasses(tmp_path / "work/passed")
    passes.add("key")
    assert not passes.has("key")
