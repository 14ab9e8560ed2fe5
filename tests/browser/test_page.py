"""The agent's page in a real browser: what happens is seen at once, and what a person does is done."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from hive_agent.backends.transcript import (
    Notice,
    SessionStarted,
    ToolCall,
    ToolResult,
    TranscriptMessage,
    TranscriptText,
)
from tests.browser.browser import window
from tests.unit.agent.web.fakes import Served, served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_link_lets_one_browser_in_once(browser: Browser, alice: Served) -> None:
    """The ticket leaves the address, the cookie is out of reach of scripts and other sites; the link works once."""
    link = alice.link
    async with window(browser, link) as page:
        assert page.url == f"{alice.url}/"
        [cookie] = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert await page.evaluate("document.cookie") == ""
        assert await page.evaluate("history.length") <= 2
        await page.reload()
        await expect(page.locator("#state-name")).to_have_text("idle")
    context = await browser.new_context()
    late = await context.new_page()
    await late.goto(link)
    await expect(late.locator("#entering")).to_contain_text("This link does not work")
    await expect(late.locator("#hint")).to_contain_text("hive-c0re open alice")
    await late.goto(f"{alice.url}/")
    await expect(late.locator("#no-session")).to_be_visible()
    await context.close()


async def test_a_turn_is_seen_as_it_happens(alice: Served, page: Page) -> None:
    """Messages, what the model says, its calls with their results, and the turn's end come without a reload."""
    alice.controls.turn(1)
    alice.controls.stand(state="thinking", detail="1 message")
    alice.controls.tell(1, SessionStarted("s", fresh=True), TranscriptMessage(1, "operator", "Mend the test.", 14))
    alice.controls.tell(1, TranscriptText("I look at **names** first.\n\n```\ndef valid(): ...\n```"))
    alice.controls.tell(1, ToolCall("a", "mcp__hive__send", {"to": "bob", "body": "Is that meant?"}))
    turn = page.get_by_role("article", name="Turn 1")
    await expect(page.locator("#state-name")).to_have_text("thinking")
    await expect(turn.locator(".letter")).to_contain_text("Mend the test.")
    await expect(turn.locator(".said strong")).to_have_text("names")
    await expect(turn.locator("pre.code")).to_have_text("def valid(): ...")
    call = turn.locator(".call").first
    await expect(call).to_contain_text("running")
    await expect(call.locator("summary")).to_contain_text("bob: Is that meant?")
    alice.controls.tell(1, ToolResult("a", "\n".join(map(str, range(5_000))), False, 90_000))
    await expect(call.locator(".outcome")).to_have_text("done")
    await call.locator("summary").click()
    await expect(call.locator(".output")).to_contain_text("Cut: 90,000 characters in all.")
    alice.controls.tell(1, ToolCall("b", "Edit", {"file_path": "x"}), ToolResult("b", "not found", True, 9))
    await expect(turn.locator(".call[data-outcome=error] .outcome")).to_have_text("failed")
    alice.controls.tell(1, Notice("warning", "the API is overloaded"))
    await expect(turn.locator(".notice.warning")).to_have_text("the API is overloaded")
    alice.controls.turn(1, "ok")
    alice.controls.stand(state="idle", detail="")
    await expect(turn.locator(".badge")).to_have_text("done")
    await expect(page.get_by_role("log")).to_contain_text("Turn 1: done")
    assert await call.get_attribute("open") is not None, "what a person has opened stays open"


async def test_a_late_comer_sees_what_was(browser: Browser, alice: Served) -> None:
    """Who comes in the middle finds the running turn's beginning, and every older turn page by page."""
    for number in range(1, 26):
        alice.controls.turn(number, "ok", quietly=True)
        alice.controls.tell(number, TranscriptText(f"said in {number}"), quietly=True)
    alice.controls.turn(26)
    alice.controls.tell(26, TranscriptText("begun before"))
    async with window(browser, alice.link) as page:
        await expect(page.locator("main").get_by_text("begun before")).to_be_visible()
        alice.controls.tell(26, TranscriptText("and after"))
        await expect(page.locator(".turn").last.locator(".said")).to_have_text(["begun before", "and after"])
        await page.get_by_role("button", name="Earlier turns").click()
        await page.get_by_role("button", name="Earlier turns").click()
        await expect(page.locator(".turn")).to_have_count(26)
        await expect(page.locator("#earlier")).to_be_hidden()
        await page.get_by_role("article", name="Turn 3").locator("summary").click()
        await expect(page.get_by_text("said in 3", exact=True)).to_be_visible()


async def test_a_message_is_sent_once(browser: Browser, alice: Served) -> None:
    """Ctrl-Enter sends; what may not have arrived stays in the box, and sent again is known for the same."""
    text = "Look at the gate.\nPlease."
    async with window(browser, alice.link, refusals=True) as page:
        alice.hive.deaf = True
        await page.keyboard.press("/")
        await page.keyboard.type(text)
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#compose-problem")).to_contain_text("Not sent:")
        await expect(page.locator("#body")).to_have_value(text)
        alice.hive.deaf = False
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#body")).to_have_value("")
    [(first, _, key), (again, _, same)] = alice.hive.sent
    assert (first, again, key) == (text, text, same)


async def test_nothing_is_cut_in_silence(browser: Browser, alice: Served) -> None:
    """No box cuts what is pasted into it: what is too long stays there, and the page says so."""
    alice.hive.ask(1, "Which colour?")
    async with window(browser, alice.link, refusals=True) as page:
        box = page.get_by_label("Your answer")
        await box.fill("x" * 10_001)
        await page.get_by_role("button", name="Answer").click()
        await expect(page.locator(".question .problem")).to_contain_text("at most 10,000 characters")
        assert await box.input_value() == "x" * 10_001
        most = "(boxes) => boxes.map((box) => box.maxLength)"
        assert await page.locator("#body, .question input").evaluate_all(most) == [-1, -1]
    assert alice.hive.answers == []


async def test_a_turn_is_cancelled_retried_and_skipped(alice: Served, page: Page) -> None:
    """A running turn can be cancelled, one that is stopped or waits retried, or skipped after asking back."""
    alice.controls.turn(1)
    turn = page.get_by_role("article", name="Turn 1")
    await turn.get_by_role("button", name="Cancel").click()
    await alice.controls.until(lambda: alice.controls.calls == [("cancel",)])
    alice.controls.turn(1, "held", failure="cancelled", detail="a person stopped the turn")
    await expect(turn.locator(".why")).to_have_text("cancelled: a person stopped the turn")
    assert await page.evaluate("document.activeElement.tagName") == "SUMMARY", "the focus is not lost"
    await turn.get_by_role("button", name="Retry").click()
    await alice.controls.until(lambda: alice.controls.calls[1:] == [("retry", 1)])
    alice.controls.turn(1, "waiting", failure="rate_limit", detail="429", next_try_at=4e9)
    await expect(turn.locator(".clock")).to_contain_text("again in")
    await turn.get_by_role("button", name="Skip").click()
    await page.keyboard.press("Escape")
    await turn.get_by_role("button", name="Skip").click()
    await page.get_by_role("button", name="Skip it").click()
    await alice.controls.until(lambda: alice.controls.calls[2:] == [("skip", 1)])
    alice.controls.turn(1, "skipped")
    await expect(turn.get_by_role("button")).to_have_count(0)


async def test_a_question_is_answered(alice: Served, page: Page) -> None:
    """A question shows its options and takes words of one's own; another one that comes disturbs no typing."""
    alice.hive.ask(1, "Shall I go on?", "Go on", "Stop")
    alice.feed.publish("inbox", {})
    first = page.get_by_role("article", name="Question 1")
    await first.get_by_label("Or in your own words").fill("Only on Mon")
    alice.hive.ask(2, "Which colour?")
    alice.feed.publish("inbox", {})
    second = page.get_by_role("article", name="Question 2")
    await expect(second.get_by_text("Which colour?")).to_be_visible()
    await expect(page.get_by_role("log")).to_contain_text("alice asks: Which colour?")
    await page.keyboard.type("days")
    await page.keyboard.press("Enter")
    await expect(first).to_have_count(0)
    alice.hive.ask(3, "Really?", "Yes", "No")
    alice.feed.publish("inbox", {})
    await page.get_by_role("article", name="Question 3").get_by_role("button", name="Yes").click()
    await expect(page.locator(".question")).to_have_count(1)
    assert alice.hive.answers == [(1, "Only on Mondays"), (3, "Yes")]


async def test_an_agent_is_logged_in(browser: Browser, alice: Served) -> None:
    """The login's link is shown, the pasted code handed on, and what came of it told; a code may be wrong."""
    async with window(browser, alice.link, refusals=True) as page:
        alice.controls.stand(state="needs_login", detail="Invalid API key")
        await expect(page.locator("#login-title")).to_have_text("This agent needs a login")
        await page.get_by_role("button", name="Begin the login").click()
        link = page.locator("#login-link")
        await expect(link).to_have_attribute("href", re.compile("^https://login.example/authorize"))
        assert {"noopener", "noreferrer"} <= set((await link.get_attribute("rel") or "").split())
        await page.get_by_label("Paste the code").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#login-result")).to_contain_text("OAuth error: Invalid code")
        await page.get_by_label("Paste the code").fill(" right ")
        await page.keyboard.press("Enter")
        await expect(page.locator("#login-result")).to_contain_text("Logged in.")
        assert [call for call in alice.controls.calls if call[0] == "give_code"] == [
            ("give_code", "wrong"),
            ("give_code", "right"),
        ]
        alice.controls.stand(login="javascript:window.pwned=1")
        await expect(link).to_have_text("javascript:window.pwned=1")
        assert await link.get_attribute("href") is None


async def test_model_compaction_and_new_session(alice: Served, page: Page) -> None:
    """Model and effort are chosen, a conversation is shortened, or begun anew after asking back."""
    await page.get_by_role("button", name="Model").click()
    await page.get_by_label("Model", exact=True).fill("claude-opus-4-1")
    await page.get_by_label("Effort", exact=True).select_option("max")
    await page.get_by_role("button", name="Use it").click()
    await expect(page.locator("#model")).to_have_text("claude-opus-4-1 · max")
    await page.get_by_role("button", name="Compact").click()
    await expect(page.locator("#toast")).to_contain_text("shortened")
    await page.get_by_role("button", name="New session").click()
    await page.get_by_role("button", name="Keep it as it is").click()
    await page.get_by_role("button", name="New session").click()
    await page.get_by_role("button", name="Begin a new one").click()
    await alice.controls.until(lambda: len(alice.controls.calls) == 3)
    assert alice.controls.calls == [("choose", "claude-opus-4-1", "max"), ("compact",), ("new_session",)]


async def test_it_comes_back_by_itself(browser: Browser, run_dir: Path, port: int) -> None:
    """When the harness was away, the page says so, and goes on by itself with how things stand then."""
    async with served(run_dir, port) as before, AsyncExitStack() as windows:
        page = await windows.enter_async_context(window(browser, before.link, refusals=True))
        before.controls.turn(1)
        await expect(page.get_by_role("article", name="Turn 1")).to_be_visible()
        stack = windows.pop_all()
    async with stack:
        await expect(page.locator("#link")).to_be_visible()
        async with served(run_dir, port, hive=before.hive) as after:
            after.controls.turn(1, "ok", quietly=True)
            after.controls.turn(2)
            after.controls.tell(2, TranscriptText("back again"))
            await expect(page.locator("main").get_by_text("back again")).to_be_visible()
            await expect(page.locator("#link")).to_be_hidden()
            await expect(page.get_by_role("article", name="Turn 1").locator(".badge")).to_have_text("done")


async def test_another_window_signs_in_for_all(browser: Browser, alice: Served) -> None:
    """Who is signed out learns what to do; when they do so in another window, the first goes on by itself."""
    async with window(browser, alice.link, refusals=True) as page:
        alice.hive.sessions.clear()
        await page.context.clear_cookies()
        await page.reload()
        await expect(page.locator("#no-session")).to_contain_text("hive-c0re open alice")
        await expect(page.locator("#state-name")).to_have_text("signed out")
        other = await page.context.new_page()
        await other.goto(alice.link)
        await expect(other.locator("#state-name")).to_have_text("idle")
        await expect(page.locator("#state-name")).to_have_text("idle")
        await expect(page.locator("#no-session")).to_be_hidden()
