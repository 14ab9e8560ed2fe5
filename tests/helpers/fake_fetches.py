"""Fake fetches: `FETCHES` lines of a file stand for the fixed-output derivations that a real build would need.

A line `FETCHES URL` is a fetch by Nix itself, `FETCHES URL PROGRAM` one by a program with network; in Nix code the line
is a comment. Nothing is fetched.
"""

from __future__ import annotations

import hashlib

from hive_core.runtimes.base import BuildOrder, Fetch, FetchesMissing


def fake_fetch(url: str, program: str = "builtin:fetchurl") -> Fetch:
    """Return a fetch whose derivation is named after the URL and the program, as Nix names one after all it holds."""
    digest = hashlib.sha256(f"{url} {program}".encode()).hexdigest()
    return Fetch("source", (url,), f"sha256-{digest[:43]}=", f"/nix/store/{digest[:32]}-source.drv", program)


def needed_fetches(text: str) -> tuple[Fetch, ...]:
    """Return the fetches that the lines of a file stand for."""
    lines = [line.removeprefix("# ").split() for line in text.splitlines()]
    return tuple(fake_fetch(*words[1:]) for words in lines if words[:1] == ["FETCHES"])


def check_fake_fetches(text: str, order: BuildOrder) -> None:
    """Raise FetchesMissing for the fetches that are not allowed, as the builder of the nixos runtime does.

    In these tests nobody allows more than what is needed: that is a fault of the gate, and fails the build.
    """
    needed = needed_fetches(text)
    if order.allowed_fetches - {fetch.derivation for fetch in needed}:
        raise AssertionError(f"more is allowed than was asked for: {sorted(order.allowed_fetches)}")
    missing = tuple(fetch for fetch in needed if fetch.derivation not in order.allowed_fetches)
    if missing:
        raise FetchesMissing(missing)
