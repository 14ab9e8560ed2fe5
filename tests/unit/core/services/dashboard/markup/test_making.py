"""The process that makes HTML of texts: its limits, and what is shown when it fails."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from hive_core.services.dashboard.markup import making, worker
from hive_core.services.dashboard.markup.making import Markup


@pytest.fixture
async def markup() -> AsyncIterator[Markup]:
    """A worker that is started with the first text."""
    made = Markup()
    yield made
    await made.close()


async def test_texts_are_made_one_after_another(markup: Markup) -> None:
    """Markdown, code and lines of files come from one process; a bomb between them is shown as its text."""
    assert await markup.markdown("**b**") == "<p><strong>b</strong></p>\n"
    assert 'class="hl-' in await markup.code("def f(): ...", "python")
    bomb = "|a" * 500 + "|\n" + "|-" * 500 + "|\n" + "|\n" * 20_000
    shown = await markup.markdown(bomb)
    assert shown.startswith('<p class="plain">|a|a')
    assert await markup.markdown(bomb) == shown
    assert len(await markup.lines("a\nb\n", "x.py")) == 3


async def test_a_worker_that_dies_is_started_anew(markup: Markup) -> None:
    """A worker that is gone costs no later text its format."""
    await markup.markdown("a")
    assert markup._process is not None
    markup._process.kill()
    await markup._process.wait()
    assert await markup.markdown("*b*") == "<p><em>b</em></p>\n"


async def test_what_cannot_start_is_plain() -> None:
    """Without a worker, or with one that says nothing, all texts are shown as they are."""
    for command in (["/no/such/program"], [sys.executable, "-c", "pass"]):
        broken = Markup(command)
        assert await broken.markdown("<b>\n*x*") == '<p class="plain">&lt;b&gt;\n*x*</p>'
        assert await broken.lines("<\n>", "x.py") == ["&lt;", "&gt;"]
        await broken.close()


async def test_a_worker_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not answer is killed, and the text is shown as it is."""
    monkeypatch.setattr(making, "_ANSWER_SECONDS", 0.05)
    hanging = Markup([sys.executable, "-c", "import time; time.sleep(60)"])
    assert await hanging.code("<", "c") == "&lt;"
    assert hanging._process is None
    await hanging.close()


async def test_a_huge_text_is_not_tried(markup: Markup) -> None:
    """A text beyond the limit does not reach the worker."""
    assert await markup.code("x" * (making.MOST_CHARACTERS + 1), "python") == "x" * (making.MOST_CHARACTERS + 1)
    assert markup._process is None


def test_faults_are_answers() -> None:
    """A request that is none is answered, and does not end the worker."""
    assert worker.answer({"do": "lines"}) == {"problem": "KeyError"}
