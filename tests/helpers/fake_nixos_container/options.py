"""The command line: one parser for all actions, and what goes on to nix."""

# ruff: noqa: T201 - the real program prints
from __future__ import annotations

import re
import sys

from tests.helpers.fake_nixos_container.program import RELEASE

FLAGS = {"help", "ensure-unique-name", "auto-start", "use-host-network"}
VALUES = {
    *("bridge", "port", "system-path", "signal", "nixos-path", "config", "config-file"),
    *("host-address", "local-address", "flake"),
}
NIX_FLAGS = {
    *("impure", "commit-lock-file", "no-registries", "no-update-lock-file", "no-write-lock-file", "no-allow-dirty"),
    *("recreate-lock-file", "refresh"),
}
NIX_VALUES = {"log-format", "update-input"}
NIX_PAIRS = {"option", "override-input"}
NEW_IN_2511 = {"use-host-network", "refresh"}


class Options:
    """The command line: positional words, our options, and those that go on to nix (pairs last)."""

    def __init__(self, arguments: list[str]) -> None:
        self.words: list[str] = []
        self.given: dict[str, str] = {}
        self._single: list[str] = []
        self._pairs: list[str] = []
        rest = list(arguments)
        wrong = False
        while rest:
            word = rest.pop(0)
            if word == "--":
                self.words += rest
                break
            if not word.startswith("-") or word == "-":
                self.words.append(word)
                continue
            name, has_value, value = word.lstrip("-").partition("=")
            wrong |= not self._take(name, [value] if has_value else [], rest)
        if wrong:
            sys.exit(1)

    @property
    def for_nix(self) -> list[str]:
        return self._single + self._pairs

    def _take(self, name: str, values: list[str], rest: list[str]) -> bool:
        """Take one option with its values; whether it was a right one."""
        known = FLAGS | VALUES | NIX_FLAGS | NIX_VALUES | NIX_PAIRS
        if name not in known or (RELEASE < "25.11" and name in NEW_IN_2511):
            print(f"Unknown option: {name}", file=sys.stderr)
            return False
        wanted = 0 if name in FLAGS | NIX_FLAGS else 2 if name in NIX_PAIRS else 1
        if len(values) > wanted:
            print(f"Option {name} does not take an argument", file=sys.stderr)
            return False
        while len(values) < wanted:
            if not rest:
                print(f"Option {name} requires an argument", file=sys.stderr)
                return False
            values.append(rest.pop(0))
        if name in NIX_PAIRS:
            self._pairs += [f"--{name}", *values]
        elif name in NIX_FLAGS | NIX_VALUES:
            self._single += [f"--{name}", *values]
        else:
            self.given[name] = values[0] if values else "1"
        return True


def split_flake(given: str | None) -> tuple[str | None, str]:
    """Flake and attribute of FLAKE#ATTRIBUTE; without an attribute it is `container`."""
    if given is not None and (found := re.fullmatch(r'(.*)#([^#"]+)', given)):
        return found[1], found[2]
    return given, "container"
