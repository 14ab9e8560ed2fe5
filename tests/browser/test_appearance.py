"""How the page looks, whoever looks and at whatever: nothing acts but the page itself, and everything can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect

from hive_agent.backends.transcript import (
    Entry,
    Notice,
    SessionStarted,
    ToolCall,
    ToolResult,
    TranscriptMessage,
    TranscriptText,
)
from tests.browser.browser import window
from tests.unit.agent.web.fakes import Served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

HOSTILE = (
    "<script>window.pwned=1</script><img src=x onerror=window.pwned=1><svg onload=window.pwned=1>"
    "</textarea></title>{{7*7}}\x1b[31mred\x1b]0;title\x07\x9b2J \u202eevil\u2066\u2069 \x00\x08\u2028 end"
)
SHOWN = "<script>window.pwned=1</script>"
ESCAPES = ("\\x1b", "\\x07", "\\x9b", "\\u202e", "\\u2066\\u2069", "\\x00\\x08", "\\u2028")


def crowd(alice: Served, text: str = "words") -> None:
    """Everything that the page can show, with `text` wherever a model, a tool or a stranger has the say."""
    entries: list[Entry] = [
        SessionStarted("s", fresh=True),
        TranscriptMessage(2, text, text, len(text)),
        TranscriptText(f"{text}\n\n# {text}\n\n`{text}` **{text}**\n\n```{text}\n{text}\n```"),
        ToolCall("a", text, {"command": text, text: text}),
        ToolResult("a", text, False, len(text)),
        ToolCall("b", "Bash", text),
        ToolResult("b", text, True, 90_000),
        ToolCall("c", "Read", {"path": [text]}),
        ToolResult("other", text, False, 5),
        *(Notice(level, text) for level in ("info", "warning", "error")),
    ]
    alice.controls.turn(1, "ok", quietly=True)
    alice.controls.turn(2, senders=[text, "bob"], quietly=True)
    alice.controls.tell(2, *entries)
    alice.controls.turn(3, "held", senders=[text], failure="refused", detail=text, quietly=True)
    alice.controls.turn(4, "waiting", failure="overloaded", detail=text, next_try_at=4e9, quietly=True)
    standing = alice.controls.standing
    standing["detail"] = standing["model"] = standing["backend"] = text
    standing["state"], standing["models"] = "needs_login", [text]
    standing["turn"] = alice.controls.turns[2]
    alice.hive.ask(1, text, text, "No")
    alice.hive.wait(1, text * 20, text, leased=True)
    alice.hive.remind(text)
    alice.hive.propose(text)


async def opened(page: Page) -> None:
    """Unfold everything, and wait until what waits is there, too."""
    await expect(page.locator(".question, #inbox .meta, #reminders .meta, #proposals .meta")).to_have_count(4)
    for turn in await page.locator(".turn > details:not([open]) > summary").all():
        await turn.click()
    for call in await page.locator(".call > summary").all():
        await call.click()


async def test_hostile_text_is_shown_as_text(browser: Browser, alice: Served) -> None:
    """Whatever a model, a tool, a stranger or a name says is text: no element, no escape, no reversal."""
    crowd(alice, HOSTILE)
    async with window(browser, alice.link) as page:
        await opened(page)
        alice.controls.tell(2, TranscriptText(f"{HOSTILE} lately"))
        await expect(page.locator("main").get_by_text("lately")).to_be_visible()
        assert await page.evaluate("document.querySelectorAll('script, img, svg, iframe').length") == 1
        text = await page.evaluate("document.body.textContent")
        assert text.count(SHOWN) > 20
        assert [escape for escape in ESCAPES if text.count(escape) < 20] == []
        assert not {character for character in HOSTILE if ord(character) > 126 or ord(character) < 32} & set(text)
        attributes = await page.evaluate(
            "[...document.querySelectorAll('*')].flatMap((one) => [...one.attributes].map((each) => each.value))"
        )
        assert not any(set(value) & set("\x1b\x9b\u202e\u2066") for value in attributes)


SPREADS = """() => {
  const most = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("body *")].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width && box.right > most + 1 && !one.closest(".unseen, pre, .digest, .call > summary code");
  });
  return [document.documentElement.scrollWidth - most, ...wide.map((one) => one.outerHTML.slice(0, 200))];
}"""


async def test_on_a_phone(browser: Browser, alice: Served) -> None:
    """Nothing is wider than a phone, however long its words are; every control is large enough for a thumb."""
    crowd(alice, "W" * 500)
    async with window(browser, alice.link, size=(390, 844)) as page:
        await opened(page)
        assert await page.evaluate(SPREADS) == [0]
        await page.get_by_role("button", name="More", exact=True).click()
        await expect(page.get_by_role("button", name="Compact")).to_be_visible()
        assert await page.evaluate(SPREADS) == [0]
        await page.set_viewport_size({"width": 320, "height": 568})
        assert await page.evaluate(SPREADS) == [0]
        for button in await page.locator("button:visible:not(.quiet)").all():
            box = await button.bounding_box()
            assert box is not None and box["height"] >= 32, await button.inner_text()


CONTRASTS = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const over = (above, below) => {
    const alpha = above[3] ?? 1;
    return [0, 1, 2].map((at) => above[at] * alpha + below[at] * (1 - alpha));
  };
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = numbers(getComputedStyle(element).backgroundColor);
    return (own[3] ?? 1) === 1 ? own : over(own, ground(element.parentElement));
  };
  const light = (color) => {
    const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const parts = color.map((part) => linear(part / 255));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const box = element.matches("input, textarea, select");
    const writes = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!(box || writes) || !element.checkVisibility() || element.closest(".unseen, .skip")) continue;
    const style = getComputedStyle(element);
    const color = over(numbers(style.color), ground(element));
    found.push([ratio(color, ground(element)), element.outerHTML.slice(0, 150)]);
    if (element.placeholder) {
      const hint = numbers(getComputedStyle(element, "::placeholder").color);
      found.push([ratio(over(hint, ground(element)), ground(element)), "placeholder"]);
    }
    // What one has to find in order to type there (WCAG 1.4.11 asks for 3).
    if (box) found.push([1.5 * ratio(numbers(style.borderTopColor), ground(element.parentElement)), "edge"]);
  }
  return found;
}"""


async def test_contrast(browser: Browser, alice: Served) -> None:
    """In both colour schemes every text is readable by the measure of WCAG 2.2, 1.4.3 (AA): 4.5 to 1."""
    schemes: Sequence[Literal["light", "dark"]] = ("light", "dark")
    crowd(alice, "words \x1b")
    async with window(browser, alice.link) as page:
        await opened(page)
        grounds = []
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            ratios: list[list[Any]] = await page.evaluate(CONTRASTS)
            await page.get_by_role("button", name="Model").click()
            ratios += await page.evaluate(CONTRASTS)
            await page.keyboard.press("Escape")
            assert len(ratios) > 150
            assert [found for found in ratios if found[0] < 4.5] == [], scheme
            grounds.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds[0] != grounds[1]


async def test_without_a_mouse(alice: Served, page: Page) -> None:
    """Everything can be reached and told with keys; what has the focus is seen; Escape leaves; keys can be put off."""
    alice.controls.turn(1, "ok")
    alice.controls.turn(2)
    focused = "document.activeElement.id || document.activeElement.closest('article')?.ariaLabel || ''"
    await expect(page.get_by_role("article", name="Turn 2")).to_be_visible()
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    for key in ("Enter", "Escape", "j"):
        await page.keyboard.press(key)
    for key, place in (("k", "Turn 1"), ("j", "Turn 2"), ("j", "Turn 2"), ("/", "body")):
        await page.keyboard.press(key)
        assert await page.evaluate(focused) == place, key
        outline = await page.evaluate("getComputedStyle(document.activeElement).outline")
        assert "2px" in outline and "solid" in outline
    await page.keyboard.type("jk?x/")
    await expect(page.locator("#body")).to_have_value("jk?x/")
    await page.keyboard.press("Escape")
    await page.keyboard.press("x")
    await page.get_by_role("button", name="Cancel it").press("Enter")
    await alice.controls.until(lambda: alice.controls.calls == [("cancel",)])
    await page.keyboard.press("?")
    await page.get_by_label("Single keys act").uncheck()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("/")
    assert await page.evaluate(focused) != "body"


async def test_a_reader_is_not_moved(alice: Served, page: Page) -> None:
    """While new things come, who reads further up stays where they are; who is at the end stays at the end."""
    alice.controls.turn(1)
    alice.controls.tell(1, *(TranscriptText(f"line {number}") for number in range(60)))
    last = page.locator("main").get_by_text("line 59", exact=True)
    await expect(last).to_be_in_viewport()
    await page.evaluate("scrollTo(0, 400)")
    await page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    alice.controls.tell(1, *(TranscriptText(f"more {number}") for number in range(20)))
    await expect(page.get_by_role("button", name="New below")).to_be_visible()
    assert await page.evaluate("scrollY") == 400
    await page.get_by_role("button", name="New below").click()
    await expect(page.locator("main").get_by_text("more 19", exact=True)).to_be_in_viewport()
    alice.controls.tell(1, TranscriptText("the very last"))
    await expect(page.locator("main").get_by_text("the very last")).to_be_in_viewport()
