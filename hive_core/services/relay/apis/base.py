"""The common part of the checks of all APIs: the refusal, the checked call, and checks of fields and values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hive_core.protocol.models.providers import UNBOUNDED_FEATURES, is_allowed_model
from hive_core.protocol.models.vendors import ModelFeature

_MOST_OUTPUT = 1_000_000
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,199}")
_BROWSING_MODELS = ("*-search-preview*", "*-search-api*", "*deep-research*", "*:online*")
"""Models that search the web by themselves."""


class CallRefused(Exception):
    """A request that is not passed on, with the HTTP status of the answer and the reason for the agent."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True)
class CallTerms:
    """The parts of a provider that a call of an agent may use."""

    features: frozenset[ModelFeature] = frozenset()
    models: tuple[str, ...] = ("*",)
    fields: frozenset[str] = frozenset()
    max_output_tokens: int = 32_000
    own_vendor: bool = True
    """True if the provider is the vendor whose API it is, and not another that speaks it."""


@dataclass(frozen=True)
class ApiRoute:
    """One path of an API that is served: `kind` says what is checked, `path` is what is sent on, after the base."""

    kind: Literal["generate", "count", "read"]
    path: str
    model: str = ""
    """The model, if the path names it."""
    dialect: str = ""
    """The API of the path, where a provider speaks more than one."""
    stream: bool = False


@dataclass
class CheckedCall:
    """A request as it is sent on, and what its reservation is made of."""

    body: dict[str, Any]
    """The request; `content` takes its place when it is written."""
    model: str
    max_tokens: int = 0
    stream: bool = False
    fast: bool = False
    used: set[ModelFeature] = field(default_factory=set)
    content: bytes = b""

    @property
    def unbounded(self) -> bool:
        """Return True if the model may read more than the request has in it."""
        return not UNBOUNDED_FEATURES.isdisjoint(self.used)


class CallChecker:
    """The checks of one request; features that it needs are collected."""

    def __init__(self, terms: CallTerms) -> None:
        self.terms = terms
        self.used: set[ModelFeature] = set()

    def need(self, feature: ModelFeature, what: str) -> None:
        """Refuse the request unless it may use a feature."""
        if feature not in self.terms.features:
            raise CallRefused(f"{what} is not allowed here: it needs the feature `{feature}` in agent.toml", 403)
        self.used.add(feature)

    def model(self, name: Any) -> str:
        """Check the name of a model."""
        if not isinstance(name, str) or _MODEL.fullmatch(name) is None:
            raise CallRefused("`model` must be the name of a model: letters, digits and ._:@/+-, at most 200 of them")
        if not is_allowed_model(name, list(self.terms.models)):
            raise CallRefused(f"the model {name[:100]!r} is not allowed here", 403)
        if is_allowed_model(name, list(_BROWSING_MODELS)):
            self.need("web", f"the model {name[:100]!r}, which searches the web,")
        return name

    def fields(self, given: Mapping[str, Any], allowed: Collection[str], place: str) -> None:
        """Refuse keys that are not on a list."""
        for name in given:
            if name not in allowed:
                raise CallRefused(f"{place} has the field {name[:60]!r}, which is not passed on")

    def bound(self, value: Any, name: str) -> int | None:
        """Check a number of tokens; None stays None."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_OUTPUT:
            raise CallRefused(f"`{name}` must be a whole number up to {_MOST_OUTPUT}")
        return value

    def tier(self, value: Any) -> bool:
        """Check a service tier; return True if it has a higher price."""
        if value in (None, "auto", "default", "standard", "standard_only", "flex"):
            return False
        if value in ("priority", "fast"):
            self.need("priority", f"the service tier {value!r}")
            return True
        raise CallRefused(f"the service tier {str(value)[:60]!r} is not passed on")


def table(value: Any, place: str) -> dict[str, Any]:
    """Return a value that must be an object."""
    if not isinstance(value, dict):
        raise CallRefused(f"{place} must be an object")
    return value


def rows(value: Any, place: str) -> list[Any]:
    """Return a value that must be a list; none is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise CallRefused(f"{place} must be a list")
    return value


def kind_of(value: dict[str, Any], place: str) -> str:
    """Return the `type` of an object, "" if it has none."""
    found = value.get("type")
    if found is None:
        return ""
    if not isinstance(found, str):
        raise CallRefused(f"{place} has a `type` that is no text")
    return found


def flag(value: Any, name: str) -> bool:
    """Return a value that must be true or false; none is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise CallRefused(f"`{name}` must be true or false")
    return value


def names(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())
