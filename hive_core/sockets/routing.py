"""Which endpoint a request is for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from hive_core.api.endpoint import Endpoint
from hive_core.errors import HiveError, not_found

_NO_PARAMETERS: Mapping[str, str] = {}


class WrongMethod(HiveError):
    """The path is there, but not for this method. `allowed` is for the `Allow` header (RFC 9110)."""

    def __init__(self, code: str, message: str, allowed: Sequence[str]) -> None:
        super().__init__(code, message, hint=f"use {' or '.join(allowed)}", status=405)
        self.allowed = ", ".join(allowed)


class Router:
    """Finds endpoints by method and path. `{x}` in an endpoint's path stands for one segment."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._fixed: dict[str, dict[str, Endpoint]] = defaultdict(dict)
        patterns: dict[str, dict[str, Endpoint]] = defaultdict(dict)
        for endpoint in endpoints:
            table = patterns if "{" in endpoint.path else self._fixed
            table[endpoint.path][endpoint.method] = endpoint
        self._patterns = [(_pattern(path), methods) for path, methods in patterns.items()]

    def find(self, method: str, raw_path: str) -> tuple[Endpoint, Mapping[str, str]]:
        """The endpoint and what its `{x}` stand for, decoded; raises `not_found` or `method_not_allowed`.

        `raw_path` is still percent-encoded, so that an encoded slash does not end a segment.
        """
        methods = self._fixed.get(raw_path)
        if methods is not None:
            return _choose(methods, method), _NO_PARAMETERS
        for pattern, methods in self._patterns:
            found = pattern.fullmatch(raw_path)
            if found:
                return _choose(methods, method), {name: unquote(value) for name, value in found.groupdict().items()}
        raise not_found("not_found", "there is nothing at this path", "see /v1/openapi.json")


def _choose(methods: Mapping[str, Endpoint], method: str) -> Endpoint:
    endpoint = methods.get(method)
    if endpoint is None:
        raise WrongMethod("method_not_allowed", "this path is not used so", sorted(methods))
    return endpoint


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"{(\w+)}", path)
    text = "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
    return re.compile(text)
