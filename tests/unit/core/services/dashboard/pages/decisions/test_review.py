"""Pages of decisions whose every text is hostile."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hive_core.services.dashboard.boundary import Boundary
from hive_core.services.dashboard.markup.making import MARKUP, Markup
from hive_core.services.dashboard.pages import decisions, repositories
from hive_core.services.dashboard.visit import Visit, Visitor, WebPage
from hive_core.text import visible

HOSTILE = "</td></textarea></pre>\"'><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e{{ 7 * 7 }}"
LINK = "javascript:alert(1)"
AT = "2026-01-01T00:00:00Z"
DIFF = f"diff --git a/x b/x\n{HOSTILE.strip()}\n@@ -1 +1 @@ {HOSTILE}\n-{HOSTILE}\n+{HOSTILE}\n[cut: {HOSTILE}]\n"
FETCH = {
    "name": HOSTILE,
    "urls": [HOSTILE],
    "hash": HOSTILE,
    "derivation": HOSTILE,
    "program": HOSTILE,
    "by_nix": False,
}
FILE = {
    "path": HOSTILE,
    "change": "changed",
    "size": len(DIFF),
    "shown": len(DIFF),
    "kind": "symlink",
    "is_text": False,
}
PROPOSAL: dict[str, Any] = {
    "agent": HOSTILE, "number": 3, "kind": "config", "state": "built", "by": HOSTILE, "note": HOSTILE,
    "commit": HOSTILE, "base": HOSTILE, "closure": HOSTILE, "waits_for": f"agent:{HOSTILE}", "approvals": [HOSTILE],
    "outcome": HOSTILE, "created_at": AT, "changed_at": AT, "expires_at": AT, "settings": [HOSTILE],
    "closure_changes": [HOSTILE], "missing_fetches": [FETCH], "files": [FILE, FILE], "diff": DIFF, "diff_bytes": 10**6,
    "allowed_fetches": {"by": HOSTILE, "failed": 2, "fetches": [FETCH]}, "pruned": False,
    # What work has beside these.
    "repo": HOSTILE, "title": HOSTILE, "description": HOSTILE, "branch": HOSTILE, "landed": HOSTILE, "link": LINK,
    "checks": [HOSTILE], "commit_count": 1, "problem": HOSTILE,
    "commits": [{"commit": HOSTILE, "author": HOSTILE, "committer": HOSTILE, "subject": HOSTILE}],
    "comments": [{"id": 1, "by": HOSTILE, "at": AT, "path": HOSTILE, "line": 1, "text": HOSTILE}],
}  # fmt: skip
REQUEST = {
    "id": 1, "agent": HOSTILE, "host": HOSTILE, "why": HOSTILE, "hours": 1.0, "state": "open", "asked_at": AT,
    "waits_for": HOSTILE, "decided_at": AT, "decided_by": HOSTILE, "note": HOSTILE,
}  # fmt: skip
DEPLOYMENT = {
    "number": 1, "kind": HOSTILE, "commit": HOSTILE, "by": HOSTILE, "approved_by": [HOSTILE], "note": HOSTILE,
    "deployed_at": AT, "current": False,
}  # fmt: skip
REPOSITORY = {
    "name": HOSTILE, "source": HOSTILE, "path": HOSTILE, "branch": HOSTILE, "push": "none", "merges": False,
    "review": HOSTILE, "checks": [{"name": HOSTILE, "argv": [HOSTILE], "timeout_seconds": 1}], "state": "behind",
    "commit": HOSTILE, "upstream": LINK, "problem": HOSTILE, "advice": HOSTILE, "fetched_at": AT, "activity": HOSTILE,
    "refs": [{"id": HOSTILE, "name": HOSTILE}], "bytes": 1, "agents": [HOSTILE],
}  # fmt: skip
ANSWER: dict[str, Any] = {
    **REPOSITORY, **PROPOSAL,
    "lines": [HOSTILE], "cursor": HOSTILE, "requests": [REQUEST, {**REQUEST, "state": "denied"}],
    "proposals": [PROPOSAL], "work": [PROPOSAL, {**PROPOSAL, "state": "approved"}, {**PROPOSAL, "state": "failed"}],
    "deployments": [DEPLOYMENT], "current": 2, "current_commit": HOSTILE, "repositories": [REPOSITORY],
}  # fmt: skip
CONFIGURATION = {"commit": HOSTILE, "executables": [], "files": {HOSTILE: base64.b64encode(HOSTILE.encode()).decode()}}
PATHS = {"owner": HOSTILE, "number": "3", "name": HOSTILE, "file": "1"}


class FakeHive:
    """A daemon whose every answer is hostile."""

    async def get(self, path: str, query: object = None) -> dict[str, Any]:
        if path.endswith("/configuration"):
            return CONFIGURATION
        if path.endswith("/refs"):
            return {"refs": REPOSITORY["refs"]}
        if path == "/v1/repositories" or "/v1/repositories/" not in path:
            return ANSWER
        return {**REPOSITORY, "refs": 1}


class _Checker(HTMLParser):
    """Collects what no text may make: elements, handlers, and addresses that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self._in_field = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_field else data

    def handle_endtag(self, tag: str) -> None:
        self._in_field = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A field that is edited has a text as it is.
        self._in_field = tag == "textarea"
        values = dict(attrs)
        source = values.get("src") or ""
        if tag in ("img", "iframe", "object", "svg", "style") or (
            tag == "script" and not source.startswith("/static/")
        ):
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "style" or (value or "").lstrip().startswith("javascript:"):
                self.found.append(f"{name}={value}")


PAGES: list[WebPage] = [page for page in [*decisions.PAGES, *repositories.PAGES] if page.method == "GET"]


@pytest.mark.parametrize("page", PAGES, ids=[page.path for page in PAGES])
async def test_no_text_becomes_a_part_of_a_page(page: WebPage) -> None:
    """Whatever a text has in any field, it is shown as a text, and characters that are not seen are shown."""
    app = web.Application()
    app[MARKUP] = Markup(("false",))
    request = make_mocked_request("GET", f"{page.path}?view=split", match_info=PATHS, app=app)
    hive: Any = FakeHive()
    visit = Visit(request, Visitor("ann", "operator"), "hs_x", hive, Boundary("http://hive.localhost:7000"))
    response = await page.show(visit)
    assert isinstance(response, web.Response) and response.text is not None
    if response.content_type == "application/json":
        assert json.loads(response.text)["lines"] == [visible(HOSTILE)]
        return
    checker = _Checker()
    checker.feed(response.text)
    assert checker.found == []
    assert "alert(1)" in checker.text and "{{ 7 * 7 }}" in checker.text
    assert "\x1b" not in checker.text and "\u202e" not in checker.text
