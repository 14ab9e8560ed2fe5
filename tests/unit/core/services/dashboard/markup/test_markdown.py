"""Texts of models as HTML: what may be in it, and nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.services.dashboard.markup.highlight import highlight, highlight_lines
from hive_core.services.dashboard.markup.markdown import render

PLAIN = [
    "em",
    "strong",
    "s",
    "br",
    "hr",
    "pre",
    "code",
    "blockquote",
    "table",
    "thead",
    "tbody",
    "tr",
    "h3",
    "h4",
    "h5",
    "h6",
]
ALLOWED: dict[str, set[str]] = {
    **{name: set() for name in PLAIN},
    **{name: {"class"} for name in ("ul", "li", "div", "p", "span", "th", "td")},
    "a": {"href", "rel", "target"},
    "ol": {"class", "start"},
    "input": {"class", "type", "disabled", "checked"},
    "button": {"class", "type"},
}


class Elements(HTMLParser):
    """Fails for an element, an attribute or an address that is not allowed."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert set(values) <= ALLOWED[tag], (tag, attrs)
        if tag == "a":
            assert str(values["href"]).lower().startswith(("http://", "https://"))
            assert (values["rel"], values["target"]) == ("noopener noreferrer", "_blank")
        if tag == "input":
            assert values["type"] == "checkbox" and "disabled" in values

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)


def check(html: str) -> None:
    """Look at all elements of `html`."""
    parser = Elements()
    parser.feed(html)
    parser.close()


PIECES = [
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!--", "-->", "<svg/onload=x>", "</code></pre>"),
    *("[a](javascript:x)", "[a](data:text/html,x)", "[a](https://a.b 'x\" onclick=y')", "[a](<https://a b>)"),
    *("![i](https://a/b.png)", "<https://a.b>", "<javascript:x>", 'https://a.b/"onx=', "[r]: javascript:x", "[r]"),
    *("|a|b|\n|:-|-:|\n|c|d|", "```html onclick=x\n<b>\n```", "~~~\n", "    code", "- [x] t", "- [ ] t", "1. a"),
    *("# h", "###### h", "> q", "**b**", "_e_", "~~s~~", "`c`", "---", "\n", "\n\n", " ", "&lt;", "&#x3c;", "\\<"),
    *("\u202e", "\x00", "\x1b[31m", "\ud800", "\ufeff", "javascript&colon;x", "[a](&#106;avascript:x)", "style=x"),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=14).map("".join))
def test_only_known_elements(text: str) -> None:
    """No text makes an element, an attribute or a link beyond the list, whatever it is made of."""
    check(render(text))


@pytest.mark.parametrize("text", PIECES)
def test_each_hostile_piece(text: str) -> None:
    """No single piece does, either, alone and within a list, a quotation and a table."""
    for shown in (text, f"- {text}", f"> {text}", f"|{text}|\n|-|\n|{text}|"):
        check(render(shown))


def test_what_people_write() -> None:
    """Tables, tasks, code and links are shown as such; headings stand below those of the page."""
    shown = render("# T\n\n- [x] done\n\n|a|\n|-:|\n|1|\n\n```python\ndef f(): ...\n```\nsee https://a.b/c")
    assert "<h3>T</h3>" in shown
    assert 'checked="checked"' in shown
    assert '<td class="to-right">1</td>' in shown
    assert '<span class="hl-nf">f</span>' in shown
    assert '<a href="https://a.b/c" rel="noopener noreferrer" target="_blank">https://a.b/c</a>' in shown
    assert "<br" in render("one\ntwo")


def test_what_is_not_seen_is_shown() -> None:
    """Controls of terminals and of the direction are visible in texts and in code."""
    assert "\\u202e" in render("a\u202eb")
    assert "\\x1b" in render("```\n\x1b[0m\n```")


@pytest.mark.parametrize("path", ["x.py", "x.unknown", "../..", "", "x.html", "Makefile"])
def test_lines_of_files(path: str) -> None:
    """A highlighted file has as many lines as the file, and no element that the file names."""
    text = "a = 1\n\n'''two\nlines'''\n<b>\f\u2028 x\n"
    lines = highlight_lines(text, path)
    assert len(lines) == text.count("\n") + 1
    for line in lines:
        check(line)
    assert highlight("<b>", "no such language") == "&lt;b&gt;"
