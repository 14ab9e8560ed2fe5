"""When hyperhive's flake is looked at."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.flake_source import FRESH_SECONDS, Newest
from hive_core.runtimes.nixos.recipe import Hyperhive


class Flake:
    """A flake that changes with each look, as long as it can be had."""

    def __init__(self) -> None:
        self.looks = 0
        self.time = 0.0
        self.gone = False
        self.open = asyncio.Event()

    async def look(self) -> Hyperhive:
        self.looks += 1
        found = Hyperhive(f"sha256-{self.looks}", None, None)
        await self.open.wait()
        if self.gone:
            raise HiveError("flake_unavailable", "it is gone")
        return found


async def test_a_full_disk_is_a_refusal() -> None:
    """What cannot be kept is told as what it is, and what was known before stays known."""

    async def look() -> Hyperhive:
        raise OSError(28, "No space left on device")

    newest = Newest(look)
    with pytest.raises(HiveError, match="No space left"):
        await newest.now()
    assert await newest.known() is None
    await newest.close()


def hash_of(found: Hyperhive | None) -> str | None:
    return None if found is None else found.nar_hash


async def test_whoever_asks_waits_for_the_first_look() -> None:
    """Nobody is told that nothing is old only because it is not known yet; all who ask share one look."""
    flake = Flake()
    newest = Newest(flake.look, lambda: flake.time)
    asking = [asyncio.create_task(newest.known()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in asking)
    flake.open.set()
    assert [hash_of(found) for found in await asyncio.gather(*asking)] == ["sha256-1"] * 3
    await newest.close()


async def test_it_is_looked_at_again_after_a_while() -> None:
    """Without any build, and not more often than that; a build's own look counts, too."""
    flake = Flake()
    flake.open.set()
    newest = Newest(flake.look, lambda: flake.time)
    seen = []
    for flake.time in (0.0, FRESH_SECONDS - 1, FRESH_SECONDS, 2 * FRESH_SECONDS - 1):
        seen += [hash_of(await newest.known()), hash_of(await newest.known())]
    assert seen == ["sha256-1"] * 4 + ["sha256-2"] * 4
    assert (await newest.now()).nar_hash == "sha256-3"
    flake.time += FRESH_SECONDS - 1
    assert hash_of(await newest.known()) == "sha256-3"
    await newest.close()


async def test_what_cannot_be_had_stays_as_it_was_known() -> None:
    """It is tried no more often than otherwise, a build is told, and after the end nothing is tried any more."""
    flake = Flake()
    flake.open.set()
    newest = Newest(flake.look, lambda: flake.time)
    assert hash_of(await newest.known()) == "sha256-1"
    flake.gone = True
    flake.time += FRESH_SECONDS
    assert [hash_of(await newest.known()) for _ in range(2)] == ["sha256-1"] * 2
    assert flake.looks == 2
    with pytest.raises(HiveError, match="it is gone"):
        await newest.now()
    await newest.close()
    flake.time += FRESH_SECONDS
    assert hash_of(await newest.known()) == "sha256-1"
    assert flake.looks == 3


async def test_it_can_be_closed_while_somebody_waits() -> None:
    """Who waits is told what is known: nothing."""
    flake = Flake()
    newest = Newest(flake.look, lambda: flake.time)
    asking = asyncio.create_task(newest.known())
    await asyncio.sleep(0)
    await newest.close()
    assert await asking is None
    flake.time += FRESH_SECONDS
    assert await newest.known() is None
    assert flake.looks == 1
