"""One run of an agent CLI: give the prompt, read what it tells, and judge how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import Process

from hive_agent.backends.base import Failed, TurnOutcome
from hive_agent.backends.one_shot.reader import Reading
from hive_agent.backends.transcript import Session, Tell
from hive_agent.processes import next_line

_FIRST_WORD_SECONDS = 300.0
"""How long the program may be silent at its start: it may be waiting for a model that thinks."""
_LEAVE_SECONDS = 15.0
"""How long the program may take to end after its result."""
_LAST_WORDS_SECONDS = 0.5
"""How long stderr is read after the end: a process left behind may hold it open."""
_LONGEST_COMPLAINT = 100_000


async def converse(process: Process, program: str, text: str, reading: Reading, tell: Tell) -> TurnOutcome:
    """Give `text` to the process, which is called `program`, and tell what `reading` makes of its output.

    The process may still run afterwards, where nothing more was to be expected of it.
    """
    ended = asyncio.Event()
    giving = asyncio.create_task(_give(process, text))
    listening = asyncio.create_task(_listen(process, reading, tell, ended))
    try:
        hung = await _read(process, program, reading, tell, ended)
        if hung is not None:
            return hung
        exit_code = None if reading.verdict is not None else await _exit_code(process)
        await asyncio.wait({listening}, timeout=_LAST_WORDS_SECONDS)
        return reading.verdict or reading.outcome(exit_code)
    finally:
        giving.cancel()
        listening.cancel()
        await asyncio.gather(giving, listening, return_exceptions=True)


async def _read(process: Process, program: str, reading: Reading, tell: Tell, ended: asyncio.Event) -> Failed | None:
    """Until the output ends, there is a verdict, or nothing more is to be expected; a failure if nothing ever came."""
    alarm = asyncio.create_task(ended.wait())
    try:
        while reading.verdict is None:
            silence = _LEAVE_SECONDS if reading.settled else None if reading.session else _FIRST_WORD_SECONDS
            line = asyncio.create_task(next_line(process))
            try:
                done, _ = await asyncio.wait({line, alarm}, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
            finally:
                line.cancel()  # without effect on one that is done
            if line not in done:
                if done or reading.settled:
                    return None
                return Failed("hung", f"{program} said nothing for {_FIRST_WORD_SECONDS:g} s after its start")
            read = line.result()
            if read is None:
                return None
            named = reading.session
            entries = reading.feed(read)
            if reading.session != named:
                tell(Session(reading.session, fresh=True))
            for entry in entries:
                tell(entry)
        return None
    finally:
        alarm.cancel()


async def _give(process: Process, text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):  # it ended early; its exit tells why
            process.stdin.write(text.encode())
            await process.stdin.drain()
        process.stdin.close()


async def _listen(process: Process, reading: Reading, tell: Tell, ended: asyncio.Event) -> None:
    """Read stderr; `ended` is set if what it says is a verdict."""
    rest = b""
    while process.stderr is not None and (piece := await process.stderr.read(65_536)):
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[-_LONGEST_COMPLAINT:]
        for line in whole:
            for entry in reading.complain(line.decode(errors="replace")):
                tell(entry)
        if reading.verdict is not None:
            ended.set()
    if rest:
        reading.complain(rest.decode(errors="replace"))


async def _exit_code(process: Process) -> int | None:
    """How the program ended; None if it goes on after its result."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            return await process.wait()
    except TimeoutError:
        return process.returncode
