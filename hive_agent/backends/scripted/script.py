"""Which rule of a script fits a message, and what its texts become. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hive_agent.backends.scripted.cpu_limit import TooLong, cpu_limit
from hive_core.protocol import Delivery, ScriptRule

_SEARCHED_CHARACTERS = 10_000
"""How much of a body rules see: some expressions take time that grows fast with the text."""
_MATCH_SECONDS = 1.0
"""Processor time for finding a message's rule: meanwhile the harness does nothing else, and no lease is renewed."""
_FIELD = re.compile(r"\{(body|sender|me|[1-9][0-9]?)\}")


class BadScript(Exception):
    """A rule of the script cannot be used; the text says which and why."""


class SlowRule(Exception):
    """A rule's expression took too long on a message; the text says which, and what to do."""


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
        """The first rule whose sender and expression fit. Raises SlowRule if that cannot be found out in time."""
        text = delivery.body[:_SEARCHED_CHARACTERS]
        index = 0
        try:
            with cpu_limit(_MATCH_SECONDS):
                for index, (rule, pattern) in enumerate(self.rules):
                    if rule.sender is not None and rule.sender != delivery.sender:
                        continue
                    found = pattern.search(text)
                    if found is not None:
                        return Match(index, rule, found.groups(default=""))
        except TooLong:
            raise SlowRule(
                f"rule {index + 1} of the script was not done with message {delivery.id} after {_MATCH_SECONDS:g} s; "
                "write its `match` so that it backtracks less"
            ) from None
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
