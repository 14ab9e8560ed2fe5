"""Turns and their entries as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hive_core.services.dashboard.markup.making import MARKUP
from hive_core.services.dashboard.pages.agents import entries as of
from hive_core.services.dashboard.rendering import Html
from hive_core.services.dashboard.visit import Visit

WORDS = {
    "running": "running",
    "waiting": "tries again",
    "held": "stopped",
    "ok": "done",
    "failed": "failed",
    "skipped": "skipped",
}
_LONG_TEXT = 100_000
_SHOWN_SENDERS = 5
Entry = Mapping[str, Any]


class ShownEntry(NamedTuple):
    """One entry as HTML. A result stands `into` the element of its call, if that is shown."""

    mark: str
    html: Html
    into: str = ""
    outcome: str = ""


async def show_entry(visit: Visit, name: str, turn: int, entry: Entry) -> ShownEntry | None:
    """Return an entry as HTML; None if it has nothing that is shown."""
    mark = of.mark_of(entry)
    if not mark:
        return None
    markup = visit.request.app[MARKUP]
    shared = {"agent": name, "turn": turn, "mark": mark, "entry": f"e{turn}-{mark.replace('.', '-')}"}
    match entry.get("kind"):
        case "message":
            letter = of.cut(of.words(entry, "text"), of.SHOWN_LETTER, of.number(entry, "characters"))
            text = await markup.markdown(letter.text)
            html = visit.fragment(
                "agents/turn/letter.html.j2", **shared, sender=of.words(entry, "sender"), letter=letter, text=text
            )
        case "text":
            said = of.cut(of.words(entry, "text"), _LONG_TEXT)
            html = visit.fragment(
                "agents/turn/said.html.j2", **shared, said=said, text=await markup.markdown(said.text)
            )
        case "call":
            html = await _call(visit, shared, turn, entry)
        case "result":
            output = of.cut(of.words(entry, "text"), of.SHOWN_OUTPUT, of.number(entry, "characters"))
            failed = entry.get("is_error") is True
            html = visit.fragment("agents/turn/output.html.j2", **shared, output=output, failed=failed)
            return ShownEntry(mark, html, of.call_id(turn, entry.get("id")), "failed" if failed else "done")
        case "notice":
            level = entry.get("level") if entry.get("level") in ("warning", "error") else "info"
            html = visit.fragment(
                "agents/turn/notice.html.j2", **shared, level=level, text=of.words(entry, "text")[:10_000]
            )
        case "session" if entry.get("fresh") is True:
            html = visit.fragment(
                "agents/turn/notice.html.j2", **shared, level="divider", text="a new conversation begins"
            )
        case _:
            return None
    return ShownEntry(mark, html)


async def _call(visit: Visit, shared: Mapping[str, object], turn: int, entry: Entry) -> Html:
    markup = visit.request.app[MARKUP]
    call = of.call_id(turn, entry.get("id"))
    sent = of.sent_message(entry)
    if sent is not None:
        text = await markup.markdown(sent[1])
        return visit.fragment("agents/turn/sent.html.j2", **shared, call=call, to=sent[0], text=text)
    change = of.change_of(entry)
    lines: list[tuple[str, Html]] = []
    if change is not None:
        made = await markup.lines("\n".join(line for _, line in change.lines), change.path)
        lines = [(sign, line) for (sign, _), line in zip(change.lines, made, strict=True)]
    return visit.fragment(
        "agents/turn/call.html.j2",
        **shared,
        call=call,
        tool=of.tool_name(entry),
        digest=of.digest(entry),
        change=change,
        lines=lines,
        fields=[] if change is not None else of.input_fields(entry),
    )


async def show_entries(visit: Visit, name: str, turn: int, entries: Sequence[Entry]) -> Html:
    """Return entries as HTML, each result behind its call; a script puts it into it."""
    shown = [await show_entry(visit, name, turn, entry) for entry in entries]
    parts = [visit.fragment("agents/turn/entry.html.j2", shown=one) for one in shown if one is not None]
    return Html("".join(parts))


def show_turn_row(
    visit: Visit, name: str, turn: Mapping[str, Any], entries: Html | None = None, earlier: str = ""
) -> Html:
    """Return a turn as HTML: its row, and its entries if they are given. `earlier` is the mark of the first of them."""
    return visit.fragment(
        "agents/turn/turn.html.j2",
        agent=name,
        turn=turn,
        word=WORDS[turn["state"]],
        senders=turn["senders"][:_SHOWN_SENDERS],
        entries=entries,
        earlier=earlier,
    )
