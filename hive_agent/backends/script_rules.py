"""Which rule of a script fits a message, and what its texts become. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hive_core.protocol import Delivery, ScriptRule

_SEARCHED_CHARACTERS = 10_000
"""How much of a body rules see: some expressions take time that grows fast with the text."""
_FIELD = re.compile(r"\{(body|sender|me|[1-9][0-9]?)\}")


class BadScript(Exception):
    """A rule of the script cannot be used; the text says which and why."""


@dataclass(frozen=True)
class Match:
    """A rule that fits a message. `index` counts from 0; `groups` are those of its expression."""

    index: int
    rule: ScriptRule
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """A script's rules, ready to use."""

    rules: tuple[tuple[ScriptRule, re.Pattern[str]], ...]

    @classmethod
    def compile(cls, rules: Sequence[ScriptRule]) -> Script:
        """Raises BadScript for an expression that is not one."""
        compiled = []
        for number, rule in enumerate(rules, 1):
            try:
                compiled.append((rule, re.compile(rule.match)))
            except (re.error, RecursionError, OverflowError) as error:
                raise BadScript(
                    f"rule {number} of the script: {rule.match!r} is no regular expression: {error}"
                ) from None
        return cls(tuple(compiled))

    def match(self, delivery: Delivery) -> Match | None:
        """The first rule whose sender and expression fit."""
        for index, (rule, pattern) in enumerate(self.rules):
            if rule.sender is not None and rule.sender != delivery.sender:
                continue
            found = pattern.search(delivery.body[:_SEARCHED_CHARACTERS])
            if found is not None:
                return Match(index, rule, found.groups(default=""))
        return None


def fill(text: str, delivery: Delivery, me: str, groups: Sequence[str]) -> str:
    """`text` with {body}, {sender}, {me} and {1}… put in, once: what is put in is not looked at again."""

    def value(found: re.Match[str]) -> str:
        match found.group(1):
            case "body":
                return delivery.body
            case "sender":
                return delivery.sender
            case "me":
                return me
            case number:
                place = int(number) - 1
                return groups[place] if place < len(groups) else ""

    return _FIELD.sub(value, text)
