"""Results that are computed once for all callers."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.infra.concurrency.shared_results import SharedResults


class Source:
    """Computes texts when it is told to, and counts."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.go = asyncio.Event()

    async def compute(self, key: str) -> str:
        self.computed.append(key)
        await self.go.wait()
        if key == "bad":
            raise ValueError(key)
        return key


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def results() -> SharedResults[str, str]:
    return SharedResults(10, len)


async def test_callers_share_one_computation(source: Source, results: SharedResults[str, str]) -> None:
    """All who ask meanwhile and afterwards get the one result, even if the first of them has given up."""
    asking = [asyncio.create_task(results.get("diff", lambda: source.compute("diff"))) for _ in range(30)]
    await asyncio.sleep(0)
    asking[0].cancel()
    source.go.set()
    assert await asyncio.gather(*asking[1:]) == ["diff"] * 29
    assert await results.get("diff", lambda: source.compute("diff")) == "diff"
    assert source.computed == ["diff"]


async def test_a_failure_is_everyones_and_not_kept(source: Source, results: SharedResults[str, str]) -> None:
    """A caller that asks after a failure starts a new computation."""
    source.go.set()
    asking = [results.get("bad", lambda: source.compute("bad")) for _ in range(2)]
    assert [type(failure) for failure in await asyncio.gather(*asking, return_exceptions=True)] == [ValueError] * 2
    with pytest.raises(ValueError, match="bad"):
        await results.get("bad", lambda: source.compute("bad"))
    assert source.computed == ["bad", "bad"]


async def test_the_least_used_results_make_room(source: Source, results: SharedResults[str, str]) -> None:
    """The kept results have a limit; a result that alone is larger is not kept."""
    source.go.set()
    for key in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb", "x" * 11, "aaaa"):
        await results.get(key, lambda key=key: source.compute(key))  # type: ignore[misc]
    assert source.computed == ["aaaa", "bbbb", "cccc", "bbbb", "x" * 11]
