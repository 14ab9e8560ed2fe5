"""Markdown as HTML of a few known elements and attributes. Runs in the worker."""

from __future__ import annotations

import html
import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.tasklists import tasklists_plugin

from hive_core.services.dashboard.markup.highlight import highlight
from hive_core.text import visible

_ALIGNED = re.compile(r"text-align:(left|center|right)")
_LOWEST_HEADING = 6
_HEADINGS_BELOW = 2
"""The page's own headings stand above those of a text."""


def render(text: str) -> str:
    """Return `text` as HTML. Raw HTML in it is shown as text; links lead to http and https only; there are no images.

    Characters that are not seen are shown as escapes.
    """
    shown: str = _parser().render(visible(text.replace("\r\n", "\n")))
    return shown


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return url.lower().startswith(("http://", "https://"))


class _Renderer(RendererHTML):
    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return self.code_block(tokens, idx, options, env)

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        token = tokens[idx]
        language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
        shown = html.escape(language[:30])
        copy = '<button type="button" class="copy quiet">Copy</button>'
        return (
            f'<div class="code"><p class="code-top"><span>{shown}</span>{copy}</p>'
            f"<pre><code>{highlight(token.content, language)}</code></pre></div>\n"
        )

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        token = tokens[idx]
        token.attrs = {"href": token.attrs.get("href", ""), "rel": "noopener noreferrer", "target": "_blank"}
        return self.renderToken(tokens, idx, options, env)

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        token = tokens[idx]
        token.tag = f"h{min(int(token.tag[1:]) + _HEADINGS_BELOW, _LOWEST_HEADING)}"
        return self.renderToken(tokens, idx, options, env)

    heading_close = heading_open

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        # The content security policy allows no style attributes.
        aligned = _ALIGNED.fullmatch(str(tokens[idx].attrs.pop("style", "")))
        if aligned is not None:
            tokens[idx].attrs["class"] = f"to-{aligned[1]}"
        return self.renderToken(tokens, idx, options, env)

    td_open = th_open

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return '<div class="wide"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "</table></div>\n"


@cache
def _parser() -> MarkdownIt:
    options = {"html": False, "linkify": True, "breaks": True}
    parser = _Parser("commonmark", options, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough", "linkify"])
    # An image would be loaded from elsewhere, which tells that it is looked at.
    parser.disable("image")
    parser.use(tasklists_plugin)
    if parser.linkify is not None:
        parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    return parser
