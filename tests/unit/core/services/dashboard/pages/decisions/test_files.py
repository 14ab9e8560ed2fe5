"""The changed files of a proposal."""

from __future__ import annotations

from hive_core.services.dashboard.pages.decisions.files import DiffChoice, FileEntry, entries_of, first_to_show


def test_files_that_change_are_all_named() -> None:
    """Every changed file has an entry; one whose diff is cut in the answer is asked for whole."""
    diff = "diff --git a/a b/a\n@@ -1 +1 @@\n-x\n+y\ndiff --git a/b b/b\n@@ -1,9 +1,9 @@\n-x\n[cut: 1 of 90 bytes]\n"
    files = [
        {"path": "a", "change": "changed", "size": 40, "shown": 40},
        {"path": "b", "change": "changed", "size": 90, "shown": 1},
        {"path": "c", "change": "made executable", "size": 50, "shown": 0, "kind": "executable"},
        {"path": "d", "change": "added", "size": 50, "shown": 0, "binary": True},
    ]
    entries, _ = entries_of({"diff": diff, "files": files})
    assert [(entry.path, entry.section is None) for entry in entries] == [
        ("a", False),
        ("b", True),
        ("c", True),
        ("d", True),
    ]
    assert entries[2].change == "made executable, a program"
    assert entries[3].warnings == ["binary: its content is not shown"]


def test_the_first_file_is_always_shown() -> None:
    """A page has its first file at once, and others while there is room."""
    unknown = [FileEntry(place, "x", "added", "1 byte", [], None) for place in range(3)]
    assert first_to_show(unknown) == {0}
    assert first_to_show([]) == set()


def test_choices_of_the_reader() -> None:
    """A choice is in the address, and only where it is not the usual one."""
    choice = DiffChoice.of({"view": "split", "space": "ignored", "context": "x"})
    assert (choice.view, choice.ignores_space, choice.whole) == ("split", True, False)
    assert choice.query(view="inline") == "?space=ignored"
    assert choice.query(context="all", fragment="1") == "?view=split&space=ignored&context=all&fragment=1"
