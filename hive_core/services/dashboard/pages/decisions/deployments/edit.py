"""A person's own change of an agent: its files in a form, proposed in the person's name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.decisions.subject import Subject
from hive_core.services.dashboard.visit import Visit, WebPage

FIRST = ("agent.toml", "agent.nix", "prompt.md")
"""The files that a form always has. The daemon's answer has the others, which stay as they are deployed."""


@dataclass(frozen=True)
class EditedFile:
    """A file in the form: its text as the person has it, and as it is deployed now if that differs from the base."""

    path: str
    text: str
    deployed: str | None = None


def decode_files(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the text of each file of a configuration; None for what no form can hold."""
    found: dict[str, str | None] = {}
    for path, content in answer["files"].items():
        try:
            text = base64.b64decode(content).decode()
        except UnicodeDecodeError:
            found[path] = None
            continue
        # A form sends every end of a line as CR LF, so it cannot hold a CR.
        found[path] = None if "\r" in text or "\0" in text else text
    return found


def changed_files(answer: Mapping[str, Any], edited: Mapping[str, str]) -> dict[str, str]:
    """Return all files of the proposal in Base64: those that are deployed, with the edited ones in their places."""
    files = dict(answer["files"])
    for path, text in edited.items():
        files[path] = base64.b64encode(text.encode(errors="surrogatepass")).decode()
    return files


def text_of_field(value: str, before: str | None) -> str:
    """Return the text of a field of a form. Browsers send CR LF, and leave out the newline at the beginning."""
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if before is not None and before.endswith("\n") and text and not text.endswith("\n"):
        text += "\n"
    return text


async def _read(visit: Visit) -> dict[str, Any]:
    return await visit.hive.get(path_of("agents", visit.path["name"], "configuration"))


async def _show(visit: Visit) -> web.StreamResponse:
    answer = await _read(visit)
    texts = decode_files(answer)
    files = [EditedFile(path, text) for path in _in_order(texts) if (text := texts[path]) is not None]
    return _page(visit, answer, files)


def _in_order(texts: Mapping[str, str | None]) -> list[str]:
    return [*(path for path in FIRST if path in texts), *sorted(path for path in texts if path not in FIRST)]


def _page(
    visit: Visit,
    answer: Mapping[str, Any],
    files: list[EditedFile],
    problem: HiveError | None = None,
    note: str = "",
) -> web.Response:
    name = visit.path["name"]
    shown = {file.path for file in files}
    return visit.page(
        "decisions/deployments/edit.html.j2",
        status=200 if problem is None else problem.status,
        agent=name,
        action=f"/agents/{quote(name, safe='')}/edit",
        base=answer["commit"],
        files=files,
        others=[path for path in sorted(answer["files"]) if path not in shown],
        problem=problem,
        note=note,
    )


async def _propose(visit: Visit) -> web.StreamResponse:
    fields, answer = await visit.form(), await _read(visit)
    deployed = decode_files(answer)
    note, base = fields.get("note", "").strip(), fields.get("base", "")
    edited = {
        name.removeprefix("file "): text_of_field(value, deployed.get(name.removeprefix("file ")))
        for name, value in fields.items()
        if name.startswith("file ")
    }
    changed = {path: text for path, text in edited.items() if deployed.get(path) != text}
    try:
        if base != answer["commit"]:
            hint = "take over what you want to keep, and propose again: it is then based on what is deployed now"
            raise HiveError("not_rebased", "another configuration was deployed meanwhile", hint=hint, status=409)
        if not changed:
            raise HiveError("nothing_changed", "no file was changed", hint="change one, or leave the page", status=409)
        request = {
            "base": base,
            "files": changed_files(answer, changed),
            "executables": answer["executables"],
            "note": note,
        }
        made = await visit.hive.post(path_of("agents", visit.path["name"], "configuration"), request)
    except HiveError as error:
        if error.status in (401, 404):
            raise
        is_other = base != answer["commit"]
        files = [
            EditedFile(
                path, edited[path], deployed.get(path) if is_other and deployed.get(path) != edited[path] else None
            )
            for path in [*(path for path in FIRST if path in edited), *sorted(set(edited) - set(FIRST))]
        ]
        return _page(visit, answer, files, error, note)
    return visit.go_to(Subject("agents", visit.path["name"], made["number"]).page)


PAGES = [
    WebPage("GET", "/agents/{name}/edit", _show),
    WebPage("POST", "/agents/{name}/edit", _propose),
]
