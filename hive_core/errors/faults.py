"""Faults in a document, as plain words with the place and, for an unknown key, the one that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

from hive_core.text import printable_line, shown

_WRONG_PATTERN = "string_pattern_mismatch"
"""Pydantic's type of the error for a text that does not match its pattern."""
_WRONG_TEXTS = ("string_type", _WRONG_PATTERN)
_REASON_MOST = 300
_NEAR_MOST = 40
"""Length of a name from which on no near one is looked for: it takes time that grows with the length."""
_REASONS = {
    "missing": "it is missing",
    "string_too_long": "it may have at most {max_length:,} characters",
    _WRONG_PATTERN: "it has a wrong form",
    "string_type": "it must be a text",
    "string_unicode": "it is not valid Unicode",
    "int_type": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "finite_number": "it must be a finite number",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "list_type": "it must be a list",
    "dict_type": "it must be a table of keys and values",
    "model_type": "it must be a table of keys and values",
    "model_attributes_type": "it must be a table of keys and values",
    "too_long": "it may have at most {max_length:,} entries",
    "too_short": "it needs at least {min_length:,} entries",
    "greater_than": "it must be more than {gt:,}",
    "greater_than_equal": "it must be at least {ge:,}",
    "less_than": "it must be less than {lt:,}",
    "less_than_equal": "it may be at most {le:,}",
    "literal_error": "it must be {expected}",
}
"""Words for pydantic's types of errors, with the names of their context (docs.pydantic.dev, "Validation Errors")."""
_PLAIN_KEY = re.compile(r"[\w-]{1,60}", re.ASCII)


@dataclass(frozen=True)
class Fault:
    """One wrong value. `path` is where it is, `reason` says what is wrong; both are one printable line."""

    path: tuple[str | int, ...]
    type: str
    reason: str

    @property
    def place(self) -> str:
        """The path as text, such as `script[1].send[0].to`; "" is the whole document."""
        return dotted(self.path)


def find_faults(error: ValidationError, model: type[BaseModel], most: int = 1) -> list[Fault]:
    """Return the first faults, at most `most`, that the validation of a document as `model` has found."""
    found = error.errors(include_url=False, include_input=False)
    return [Fault(each["loc"], each["type"], _reason(each, model)) for each in found[:most]]


def dotted(path: Sequence[str | int]) -> str:
    """Return the path of a key as text, such as `approval.rules[0].when`; an odd key is quoted."""
    parts = [
        f"[{part}]" if isinstance(part, int) else f".{part if _PLAIN_KEY.fullmatch(part) else shown(part)}"
        for part in path
    ]
    return "".join(parts).removeprefix(".")


def known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the keys that the table at `path` of a document of `model` may have; none where it is no such table."""
    here: Any = model
    for part in path:
        if isinstance(part, str) and _is_model(here):
            field = here.model_fields.get(part)
            here = field.annotation if field is not None else None
        else:
            here = get_args(here)[-1] if get_args(here) else None
        here = next((each for each in _alternatives(here) if _is_model(each) or get_args(each)), None)
    return list(here.model_fields) if _is_model(here) else []


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the one of `known` that `name` was probably meant to be; "" if none is near."""
    if len(name) > _NEAR_MOST:
        return ""
    import difflib  # noqa: PLC0415 - needed only for a mistake, and every harness imports this module

    folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return the question for the nearest of `known`, after a comma; "" if none is near."""
    found = nearest(name, known)
    return f", did you mean {found!r}?" if found else ""


def in_words(words: str) -> WrapValidator:
    """Return what replaces pydantic's messages about the type and form of a text by `words`: "it must be a size"."""
    return WrapValidator(partial(_replace_text_error, words))


def _replace_text_error(words: str, value: object, validate: Callable[[object], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] in _WRONG_TEXTS:
            raise PydanticCustomError("wrong_form", "{words}", {"words": words}) from None
        raise


def _reason(fault: ErrorDetails, model: type[BaseModel]) -> str:
    context = {key: _whole(value) for key, value in fault.get("ctx", {}).items()}
    kind = fault["type"]
    if kind == "extra_forbidden":
        *table, key = fault["loc"]
        return f"there is no such key{did_you_mean(str(key), known_keys(model, table))}"
    if kind == "string_too_short":
        least = context["min_length"]
        return "it is empty" if least == 1 else f"it needs at least {least} characters"
    words = _REASONS.get(kind)
    return printable_line(fault["msg"] if words is None else words.format(**context), _REASON_MOST)


def _whole(number: Any) -> Any:
    """Return a number without a fraction as an integer, and anything else as it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _alternatives(annotation: Any) -> Sequence[Any]:
    """Return the members of a union, other annotations as they are."""
    if annotation is None or getattr(annotation, "__origin__", None) is not None or _is_model(annotation):
        return [annotation]
    return get_args(annotation) or [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
