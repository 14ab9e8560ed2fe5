"""The block that ends the message of a tag: one line for each field of a dataclass, which is read back as it was."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from hive_core.gate.records.fetches import to_json

T = TypeVar("T")

MOST_CHARACTERS = 16 * 1024 * 1024
"""Characters of a message; the texts of a proposal are limited far below that."""


class TagBlock(Generic[T]):
    """The form of a block for the dataclass `kind`.

    `names` are the fields by their keys, in the order of the lines. Fields with their default have no line, except for
    those of `always`. The values of `plain` are written as they are, all others as JSON in ASCII on one line.
    """

    def __init__(
        self, kind: type[T], names: Mapping[str, str], *, always: Collection[str], plain: Collection[str]
    ) -> None:
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        self._names = names
        self._always = always
        self._plain = plain
        self._defaults: dict[str, Any] = {}
        for item in fields(kind):  # type: ignore[arg-type]
            if item.default_factory is not MISSING:
                self._defaults[item.name] = item.default_factory()
            else:
                self._defaults[item.name] = item.default

    def format(self, data: T) -> str:
        """Return the block with the data."""
        lines = []
        for key, name in self._names.items():
            value = getattr(data, name)
            if name in self._always or value != self._defaults[name]:
                lines.append(f"{key}: {value if name in self._plain else to_json(value)}")
        return "\n".join(lines)

    def parse(self, message: str) -> tuple[str, T]:
        """Return the text before the block that ends a message, and the block's data.

        Raises ValueError for a block that `format` does not write.
        """
        if len(message) > MOST_CHARACTERS:
            raise ValueError(f"a tag's message of {len(message)} characters is longer than any of ours")
        body, _, block = message.removesuffix("\n").rpartition("\n\n")
        values: dict[str, Any] = {}
        for line in block.split("\n"):
            key, colon, text = line.partition(": ")
            name = self._names.get(key)
            if not colon or name is None:
                raise ValueError(f"{line[:80]!r} is no line of the block that ends a tag's message")
            if name in values:
                raise ValueError(f"{key} stands twice in a tag's message")
            values[name] = text if name in self._plain else _parse_json(text)
        try:
            data = self._adapter.validate_python(values)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise ValueError(f"wrong value of {fault['loc'][0]} in a tag's message: {fault['msg']}") from None
        if self.format(data) != block:
            raise ValueError("the block of a tag's message is not in the form in which it is written")
        return body, data


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{text[:80]!r} in a tag's message is not JSON") from None
