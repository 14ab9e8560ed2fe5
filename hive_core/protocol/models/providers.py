"""Models of the providers of models, and of what an agent may use of them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Answer, Request
from hive_core.protocol.models.vendors import ModelFeature, VendorApi

UNBOUNDED_FEATURES = frozenset[ModelFeature]({"web", "mcp", "code", "urls", "files", "stored"})
"""Features with which the model reads more than the request has in it."""

CredentialName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"),
    in_words("it must be the name of a credential: letters, digits, _, - and ., at most 128 of them"),
]
"""Name of a file in the relay's directory of credentials."""
ModelName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,199}$"),
    in_words("it must be the name of a model: letters, digits and ._:@/+-, at most 200 of them"),
]
ModelPattern = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._:@/+*?-]{1,200}$"),
    in_words("it must be the name of a model, in which * stands for any characters and ? for one"),
]
FieldName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"),
    in_words("it must be the name of a field: letters, digits and _, at most 64 of them"),
]
OutputTokens = Annotated[int, Field(ge=1, le=1_000_000)]
_Rate = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


def _base_url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise PydanticCustomError("bad_url", "it is no valid address") from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise PydanticCustomError("bad_url", "it must be an address that begins with https:// or http://")
    if url.username is not None or url.password is not None or url.query or url.fragment:
        raise PydanticCustomError("bad_url", "it may have no user, no query and no fragment; a key is a credential")
    return text.rstrip("/")


BaseUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[!-~]+$", max_length=500),
    in_words("it must be an address that begins with https:// or http://"),
    AfterValidator(_base_url),
]


class ModelRates(Request):
    """List prices of a model in US dollars: for a million tokens, and for one search of the web.

    A rate that is None is that of `input`; what is not given for `cache_write_hour` is the one of `cache_write`.
    """

    input: _Rate
    output: _Rate
    cache_read: _Rate | None = None
    cache_write: _Rate | None = None
    cache_write_hour: _Rate | None = None
    search: _Rate = 0.0


class ProviderSettings(Request):
    """A provider of models that the relay reaches in the name of agents.

    `base_url` is what the vendor's own client library takes, by default the vendor's; `keys` are names of credentials,
    which are tried in this order when the vendor is overloaded. `features` are what agents may be allowed at most.
    `max_output_tokens` is the bound of a call that has none, `calls_at_once` that of the calls of one agent. `fields`
    are further top-level fields of requests that are passed on. `rates` are the prices of all its models, in place of
    the price table's.
    """

    api: VendorApi
    base_url: BaseUrl | None = None
    keys: list[CredentialName] = Field(default_factory=list, max_length=10)
    models: list[ModelPattern] = Field(default_factory=lambda: ["*"], min_length=1, max_length=100)
    features: list[ModelFeature] = Field(default_factory=list, max_length=20)
    max_output_tokens: OutputTokens = 32_000
    calls_at_once: Annotated[int, Field(ge=1, le=1_000)] = 16
    fields: list[FieldName] = Field(default_factory=list, max_length=50)
    rates: ModelRates | None = None

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.base_url is None and not self.keys:
            raise PydanticCustomError("no_key", "`keys` must name at least one credential for the vendor's own address")
        return self

    @property
    def address(self) -> str:
        """The base address: the setting, or the vendor's own."""
        return self.base_url or DEFAULT_URLS[self.api]


DEFAULT_URLS: dict[VendorApi, str] = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
    "google": "https://generativelanguage.googleapis.com",
}
"""The vendors' own base addresses, as their client libraries take them."""


class ProviderAccess(Answer):
    """The use of one provider that an agent is allowed: its models as patterns, and features."""

    provider: str
    models: list[str] = Field(default_factory=lambda: ["*"])
    features: list[ModelFeature] = Field(default_factory=list)


def is_allowed_model(model: str, patterns: list[str]) -> bool:
    """Return True if one of the patterns stands for `model`."""
    return any(fnmatchcase(model, pattern) for pattern in patterns)
