"""What the harness does about each way in which a turn can fail: the table, and each of its rows at work."""

from __future__ import annotations

import math
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_agent.backends.api_errors import classify_error
from hive_agent.backends.base import Failed, FailureKind, NeedsLogin, Ok, Turn, TurnOutcome
from hive_agent.interfaces import ActionNotPossible
from hive_agent.turns import loop
from hive_agent.turns.attempts import retry_pause
from hive_agent.turns.failure_policy import REACTIONS, Kind, Reaction, kind_of, pause
from tests.unit.agent.backends.fake_backend import Run, Running, serving
from tests.unit.agent.fake_core_api import FakeCore

MINUTE = 60.0
SIX_HOURS = 6 * 3_600.0
MONTH = 32 * 86_400.0
LIMITS: set[Kind] = {"rate_limit", "budget"}
"""Failures because of limits of use, which may be for a month."""
KINDS: list[Kind] = sorted(REACTIONS)
TRIED_AGAIN: list[Kind] = [kind for kind in KINDS if kind != "cancelled"]


def failure(kind: Kind, retry_after: float | None = None) -> Failed | NeedsLogin:
    if kind == "needs_login":
        return NeedsLogin("please log in")
    return Failed(kind, f"it was {kind}", retry_after)


class Pauses:
    """Stands in for the time that passes: pauses are noted, and short."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.asked: list[tuple[Reaction, int, float | None]] = []
        self._seconds = seconds

    def __call__(self, reaction: Reaction, in_a_row: int, retry_after: float | None) -> float:
        self.asked.append((reaction, in_a_row, retry_after))
        return self._seconds


def one_after_another(*outcomes: TurnOutcome) -> Run:
    """Turns end with these; all that follow end well."""
    left = list(outcomes)

    async def run(_turn: Turn) -> TurnOutcome:
        return left.pop(0) if left else Ok()

    return run


# --- the table --------------------------------------------------------------------------------------------------


def test_every_failure_has_its_row() -> None:
    """There is a reaction to each kind of failure, and none to what is no failure."""
    assert set(REACTIONS) == {*get_args(FailureKind), "needs_login"}


@pytest.mark.parametrize("kind", KINDS)
def test_pauses_grow_and_are_never_short(kind: Kind) -> None:
    """Pauses after failures in a row never shrink, end at the longest, and are a second at least: no tight loop."""
    reaction = REACTIONS[kind]
    pauses = [pause(reaction, in_a_row, None) for in_a_row in range(1, 200)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == reaction.longest
    if kind == "cancelled":
        assert reaction.held_after == 0, "nothing is tried again without a person, so there is nothing to wait for"
    else:
        assert pauses[0] >= 1.0
        assert reaction.longest >= 60.0


@given(st.sampled_from(KINDS), st.integers(1, 10_000), st.one_of(st.none(), st.floats()))
def test_retry_after_is_honoured(kind: Kind, in_a_row: int, retry_after: float | None) -> None:
    """Nothing is tried before the API allows it, within reason; what is no time in it changes nothing.

    A time of a minute and more is waited for exactly, and a budget's time always is; there is no tight loop.
    """
    reaction = REACTIONS[kind]
    seconds, longest_told = pause(reaction, in_a_row, retry_after), MONTH if kind in LIMITS else SIX_HOURS
    assert math.isfinite(seconds)
    if retry_after is None or not math.isfinite(retry_after):
        assert seconds == pause(reaction, in_a_row, None)
        return
    told = min(retry_after, longest_told)
    assert seconds >= told
    if kind == "budget":
        assert seconds == max(1.0, told)
    elif told >= MINUTE:
        assert seconds == told
    else:
        assert seconds == max(told, pause(reaction, in_a_row, None))


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("Claude AI usage limit reached|1796049000", 9_000),
        ("You've hit your weekly limit · resets Dec 2 at 7pm (UTC)", 2 * 86_400 + 7 * 3_600),
        ("You've hit your usage limit. Upgrade to Pro or try again in 5 days 22 hours 11 minutes.", 511_860),
        (
            '{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","plan_type":"free",'
            '"resets_at":1796642705,"resets_in_seconds":602705}}',
            602_705,
        ),
        ("You have exhausted your capacity on this model. Your quota will reset after 161h39m41s.", 581_981),
        (
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
            43_200,
        ),
        ("429 Too many requests. Retry-After: 90", 90),
    ],
)
@pytest.mark.parametrize("in_a_row", [1, 50])
def test_a_limit_that_says_when_it_ends(line: str, seconds: float, in_a_row: int) -> None:
    """The programs' lines about limits of use lead to a pause that ends exactly then, however often it was met."""
    outcome = classify_error(line, now=datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp())
    assert isinstance(outcome, Failed)
    assert outcome.kind == "rate_limit"
    assert pause(REACTIONS["rate_limit"], in_a_row, outcome.retry_after) == pytest.approx(seconds)


# --- each row at work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRIED_AGAIN)
async def test_a_failed_turn_is_tried_again(core: FakeCore, tmp_path: Path, kind: Kind) -> None:
    """After each kind of failure the hive and the page are told the state and why, the backend is opened anew where
    the table says so, and the same turn is tried again after the table's pause, as another attempt; nothing is lost.
    """
    reaction = REACTIONS[kind]
    failed = failure(kind, 7.0)
    pauses = Pauses()
    number = await core.deliver("x")
    # What is told to shorten its conversation gets a second chance before anything else.
    outcomes = [failed, failed] if reaction.compact else [failed]
    async with serving(core, tmp_path, one_after_another(*outcomes), pause=pauses) as running:
        await core.until(lambda: core.acknowledged() == [number] and core.state_names()[-1:] == ["idle"])
        waited = running.told("turn", id=1, state="waiting", failure=kind)[-1]
        assert waited["detail"] == failed.detail
        assert isinstance(waited["next_try_at"], float)
        assert running.told("turn", id=1, state="ok")
        attempts = len(outcomes) + 1
        assert running.backend.attempts == [(1, attempt) for attempt in range(1, attempts + 1)]
        assert running.opened == (2 if reaction.restart else 1)
        assert running.backend.asked.count("compact") == int(reaction.compact)
    retry_after = failed.retry_after if isinstance(failed, Failed) else None
    assert pauses.asked == [(reaction, 1, retry_after)]
    told = [(state.state, state.detail) for state in core.states]
    assert (reaction.state, failed.detail) in told
    assert set(core.state_names()) == {"idle", "thinking", reaction.state}


async def test_too_long_is_shortened_once_then_tried(core: FakeCore, tmp_path: Path) -> None:
    """A conversation that does not fit is shortened and the turn tried again at once, without notes and a pause."""
    pauses = Pauses()
    number = await core.deliver("x")
    async with serving(core, tmp_path, one_after_another(failure("too_long")), pause=pauses) as running:
        await core.until(lambda: core.acknowledged() == [number])
        assert running.backend.asked[:1] == ["compact"]
        assert "notes" not in running.backend.asked
        assert running.backend.attempts == [(1, 1), (1, 2)]
    assert pauses.asked == []


async def test_a_compaction_that_fails_decides(core: FakeCore, tmp_path: Path) -> None:
    """If the conversation cannot be shortened, why it cannot be is what is reacted to."""
    pauses = Pauses()
    number = await core.deliver("x")

    async def too_long(_turn: Turn) -> TurnOutcome:
        return failure("too_long") if len(running.backend.turns) == 1 else Ok()

    async with serving(core, tmp_path, too_long, pause=pauses) as running:
        running.backend.compacting = lambda: failure("billing")
        await core.until(lambda: core.acknowledged() == [number])
        assert running.told("turn", id=1, state="waiting", failure="billing")
    assert [asked[0] for asked in pauses.asked] == [REACTIONS["billing"]]


@pytest.mark.parametrize("kind", ["timeout", "steps"])
async def test_what_fails_of_itself_is_held(core: FakeCore, tmp_path: Path, kind: Kind) -> None:
    """A message whose turns are stopped again and again is left to a person after the third; others are handled."""
    bad = await core.deliver("bad", "ada")

    async def judge(turn: Turn) -> TurnOutcome:
        return failure(kind) if bad in [one.id for one in turn.deliveries] else Ok()

    async with serving(core, tmp_path, judge) as running:
        await running.turn(1, "held")
        later = await core.deliver("fine", "bob")
        await core.until(lambda: core.acknowledged() == [later])
        assert running.backend.turns == [[bad]] * 3 + [[later]]
        assert core.messages[bad].holder is not None, "it is not in the way of others"
        assert [turn["id"] for turn in running.desk.snapshot()["held"]] == [1]
        await running.until(lambda: running.told("state", state="idle", detail="1 turn waits for the operator"))
        # Of a harness that pauses the hive tells the operator; of one that is idle it tells nobody.
        [told] = [state.detail for state in core.states if state.state == "paused"]
        assert told == f"turn 1 waits for the operator, others continue: it was {kind}"


async def test_only_so_many_turns_are_held(core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many turns wait for a person as may, the next one makes the harness wait for that person, too."""
    monkeypatch.setattr(loop, "MOST_HELD", 1)
    pauses = Pauses(3_600.0)
    first = await core.deliver("x")

    async def waits(_turn: Turn) -> TurnOutcome:
        return failure("cancelled")

    async with serving(core, tmp_path, waits, pause=pauses):
        await core.until(lambda: core.state_names()[-1:] == ["idle"] and "thinking" in core.state_names())
        await core.deliver("y")
        await core.until(lambda: core.state_names()[-1:] == ["paused"])
    assert core.messages[first].holder is not None
    assert [asked[0].state for asked in pauses.asked] == ["paused"]


async def test_a_login_ends_the_pause(core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as there are credentials, however they came, the turn is tried again, though the pause is not over."""
    monkeypatch.setattr(retry_pause, "FIRST_LOGIN_CHECK", 0.01)
    number = await core.deliver("x")
    async with serving(core, tmp_path, one_after_another(failure("needs_login")), pause=Pauses(3_600.0)) as running:
        running.backend.credentials = False
        await core.until(lambda: "needs_login" in core.state_names())
        assert core.acknowledged() == []
        running.backend.credentials = True
        await core.until(lambda: core.acknowledged() == [number])


async def test_credentials_that_do_not_work_are_not_tried_at_once(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are credentials and the API refuses them, their being there ends no pause."""
    monkeypatch.setattr(retry_pause, "FIRST_LOGIN_CHECK", 0.0)
    await core.deliver("x")
    async with serving(core, tmp_path, one_after_another(failure("needs_login")), pause=Pauses(3_600.0)) as running:
        await core.until(lambda: core.state_names()[-1:] == ["needs_login"])
        later = await core.deliver("y")
        assert running.backend.turns == [[1]]
        await running.desk.choose("large", None)  # only a person's wish ends it
        await core.until(lambda: later in core.acknowledged())
        assert running.backend.turns == [[1], [1], [later]]


async def test_a_budget_waits_for_the_hive(core: FakeCore, tmp_path: Path) -> None:
    """The turn's messages are kept until the day turns or the hive says that there is money; the hive is told until
    when, and only its word about that, or a person's, ends the pause.
    """
    number = await core.deliver("x")
    began = time.time()
    async with serving(core, tmp_path, one_after_another(failure("budget", 3_000.0)), pause=pause) as running:
        await core.until(lambda: core.state_names()[-1:] == ["budget"])
        waited = await running.turn(1, "waiting")
        assert core.acknowledged() == []
        goes_on_at = core.states[-1].goes_on_at
        assert goes_on_at is not None
        assert 3_000 <= goes_on_at - began < 3_030
        assert waited["next_try_at"] == pytest.approx(goes_on_at, abs=5)
        await running.desk.go_on()
        await core.until(lambda: core.acknowledged() == [number])
        assert core.states[-1].goes_on_at is None


async def test_the_hive_does_not_end_other_pauses(core: FakeCore, tmp_path: Path) -> None:
    """News of money ends no pause after another failure; a person who resumes the agent ends any."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, one_after_another(failure("billing")), pause=pause) as running:
        await running.turn(1, "waiting")
        await core.until(lambda: core.state_names()[-1:] == ["paused"])
        await running.desk.go_on()
        await running.desk.history(None, 10)
        assert running.backend.turns == [[number]]
        await running.desk.resume()
        await core.until(lambda: core.acknowledged() == [number])
        with pytest.raises(ActionNotPossible):
            await running.desk.resume()


async def test_another_daemon_may_have_another_budget(core: FakeCore, tmp_path: Path) -> None:
    """A turn that a budget has not allowed is tried again after a restart of the daemon."""
    number = await core.deliver("x")
    async with serving(core, tmp_path, one_after_another(failure("budget", 3_000.0)), pause=pause) as running:
        await running.turn(1, "waiting")
        await core.until(lambda: core.state_names()[-1:] == ["budget"])
        await core.stop()
        await core.start()
        await core.until(lambda: core.acknowledged() == [number])


async def test_the_real_pause_is_kept(core: FakeCore, tmp_path: Path) -> None:
    """With the table's own pauses nothing is tried while they last, whatever else comes in."""
    await core.deliver("x")

    async def overloaded(_turn: Turn) -> TurnOutcome:
        return failure("overloaded", 3_000.0)

    async with serving(core, tmp_path, overloaded, pause=pause) as running:
        waited = await running.turn(1, "waiting")
        await core.until(lambda: core.state_names()[-1:] == ["failed"])
        calls = len(core.calls)
        await core.deliver("y")
        await running.desk.history(None, 10)
        next_try, begun = waited["next_try_at"], waited["started_at"]
        assert isinstance(next_try, float) and isinstance(begun, float)
        assert next_try - begun >= 3_000
        assert len(core.calls) == calls
        assert running.backend.turns == [[1]]


# --- together ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_no_message_is_lost(core: FakeCore, tmp_path: Path, seed: int) -> None:
    """Whatever turns fail of, in whatever order: every message is handled in the end, or waits with a held turn."""
    dice = random.Random(seed)
    failures = [failure(dice.choice(KINDS)) for _ in range(25)]
    seen: set[int] = set()

    async def anything(turn: Turn) -> TurnOutcome:
        taken = {one.id for one in turn.deliveries}
        if turn.more is not None and dice.random() < 0.5:
            taken |= {one.id for one in await turn.more()}
        if failures and dice.random() < 0.6:
            return failures.pop()
        seen.update(taken)
        return Ok()

    def all_dealt_with() -> bool:
        held = held_messages(running)
        return all(stored.acknowledged or number in held for number, stored in core.messages.items())

    async with serving(core, tmp_path, anything, pause=Pauses(0.0)) as running:
        for number in range(40):
            await core.deliver("x", dice.choice(["ada", "bob", "operator"]))
            if number % 10 == 9:
                await core.until(lambda: "thinking" in core.state_names())
        while failures:
            await core.deliver("x", dice.choice(["ada", "bob", "carol"]))
            await core.until(lambda: not failures or all_dealt_with())
        await core.until(all_dealt_with)
        while held := running.desk.snapshot()["held"]:
            await running.desk.retry(held[0]["id"])
            await running.turn(held[0]["id"], "ok")
        await core.until(lambda: core.acknowledged() == list(core.messages))
        assert seen == set(core.messages), "what is acknowledged was handled"


def held_messages(running: Running) -> set[int]:
    return {number for turn in running.desk.snapshot()["held"] for number in turn["messages"]}


def test_kind_of_an_outcome() -> None:
    """An outcome names its row of the table."""
    assert [kind_of(failure(kind)) for kind in KINDS] == KINDS
