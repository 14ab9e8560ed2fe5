"""Coloured lines of diffs."""

from __future__ import annotations

from hive_core.services.dashboard.markup.highlight import highlight_lines
from hive_core.services.dashboard.pages.decisions.diff.colours import colour_lines
from hive_core.services.dashboard.pages.decisions.diff.parse import parse_diff
from hive_core.services.dashboard.pages.decisions.diff.rows import show_file
from hive_core.services.dashboard.rendering import Html

DIFF = "diff --git a/x.py b/x.py\n@@ -1,3 +1,3 @@\n def f():\n-    return '<b>'\n+    return 1\n # end\n\\ No newline\n"


async def test_both_sides_are_coloured() -> None:
    """Lines are coloured as the file reads before and after the change; git's remarks are not."""
    asked: list[str] = []

    async def highlight(text: str, path: str) -> list[Html]:
        asked.append(text)
        return [Html(line) for line in highlight_lines(text, path)]

    shown = show_file(parse_diff(DIFF).files[0], "inline")
    found = {line.sign + line.text: html for line, html in (await colour_lines(shown, "x.py", highlight)).items()}
    assert asked == ["def f():\n    return '<b>'\n# end", "def f():\n    return 1\n# end"]
    assert found["-    return '<b>'"].endswith("'&lt;b&gt;'</span>")
    assert set(found) == {" def f():", "-    return '<b>'", "+    return 1", " # end"}


async def test_lines_that_do_not_fit_are_text() -> None:
    """No line is coloured if not as many lines come back: no line is shown in the place of another."""

    async def wrong(_: str, __: str) -> list[Html]:
        return [Html("one")]

    assert await colour_lines(show_file(parse_diff(DIFF).files[0], "split"), "x.py", wrong) == {}
