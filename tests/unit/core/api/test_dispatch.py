"""Which endpoint a request is for."""

from __future__ import annotations

import pytest

from hive_core.api.dispatch import Router, WrongMethod
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.errors import HiveError
from hive_core.protocol import Done


async def nothing(_: ApiCall) -> Done:
    return Done()


@pytest.fixture
def router() -> Router:
    paths = [
        ("GET", "/v1/agents"),
        ("POST", "/v1/agents"),
        ("GET", "/v1/agents/{name}"),
        ("POST", "/v1/agents/{name}/stop"),
    ]
    return Router([Endpoint(method, path, "", nothing, Done) for method, path in paths])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "raw_path", "path", "parameters"),
    [
        ("GET", "/v1/agents", "/v1/agents", {}),
        ("GET", "/v1/agents/bob", "/v1/agents/{name}", {"name": "bob"}),
        ("POST", "/v1/agents/bob/stop", "/v1/agents/{name}/stop", {"name": "bob"}),
        ("GET", "/v1/agents/a%2Fb", "/v1/agents/{name}", {"name": "a/b"}),
        ("GET", "/v1/agents/%FF", "/v1/agents/{name}", {"name": "\ufffd"}),
        ("GET", "/v1/agents/a%0Ab", "/v1/agents/{name}", {"name": "a\nb"}),
    ],
)
def test_a_request_finds_its_endpoint(
    router: Router, method: str, raw_path: str, path: str, parameters: dict[str, str]
) -> None:
    """By method and path; an encoded slash stays inside its segment, and what is not UTF-8 is no error."""
    endpoint, found = router.find(method, raw_path)
    assert (endpoint.method, endpoint.path, dict(found)) == (method, path, parameters)


@pytest.mark.parametrize("raw_path", ["/", "/v1/agents/", "/v1/agents/a/b", "/v1/agentsx", "/v1/agents/bob/stop/"])
def test_an_unknown_path_is_not_found(router: Router, raw_path: str) -> None:
    """A path matches as a whole or not at all."""
    with pytest.raises(HiveError) as refusal:
        router.find("GET", raw_path)
    assert (refusal.value.code, refusal.value.status) == ("not_found", 404)


def test_a_wrong_method_is_told_the_right_ones(router: Router) -> None:
    """The refusal names what would be allowed, for people and for the Allow header."""
    with pytest.raises(WrongMethod, match="not allowed for this path") as refusal:
        router.find("DELETE", "/v1/agents")
    assert (refusal.value.allowed, refusal.value.hint, refusal.value.status) == ("GET, POST", "use GET or POST", 405)
