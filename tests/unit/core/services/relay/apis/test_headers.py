"""The headers that pass the relay."""

from __future__ import annotations

import pytest

from hive_core.protocol.models.vendors import VendorApi
from hive_core.services.relay.apis.headers import key_header, presented_keys, to_agent, to_vendor


@pytest.mark.parametrize("api", ["anthropic", "openai", "google"])
@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "X-Api-Key", "x-goog-api-key", "Cookie", "Host", "Content-Length", "Transfer-Encoding"),
        *("Connection", "Upgrade", "Expect", "Content-Encoding", "Accept-Encoding", "Proxy-Authorization", "Forwarded"),
        *("X-Forwarded-For", "OpenAI-Organization", "OpenAI-Project", "anthropic-workspace-id", "x-goog-user-project"),
        *("X-HTTP-Method-Override", "X-Original-URL", "Range", "made-up"),
    ],
)
def test_other_headers_stay_here(api: VendorApi, name: str) -> None:
    """Keys, cookies, accounts, and everything about the connection are not sent on."""
    assert to_vendor(api, [(name, "value")], ["web"]) == to_vendor(api, [], [])


def test_what_programs_say_of_themselves_is_sent_on() -> None:
    """Versions and identifiers of the agents' programs reach the vendor."""
    sent = to_vendor("anthropic", [("User-Agent", "claude-cli/2"), ("X-Stainless-Lang", "js"), ("x-app", "cli")], [])
    assert {"user-agent": "claude-cli/2", "x-stainless-lang": "js", "x-app": "cli"}.items() <= sent.items()
    assert sent["accept-encoding"] == "identity"
    assert "originator" in to_vendor("openai", [("originator", "codex_exec")], [])


@pytest.mark.parametrize("value", ["a\r\nx-api-key: b", "a\nb", "a\0b", "ä", "x" * 1_001])
def test_values_that_could_be_more_are_left_out(value: str) -> None:
    """A value is one line of printable ASCII."""
    assert "user-agent" not in to_vendor("anthropic", [("User-Agent", value)], [])


def test_betas_are_a_list_of_their_own() -> None:
    """Names in anthropic-beta that are known pass; those of a feature only with it, and unknown ones never."""
    given = "claude-code-20250219, interleaved-thinking-2025-05-14,mcp-client-2025-11-20,made-up-2030-01-01"
    more = [("anthropic-beta", given), ("Anthropic-Beta", "code-execution-2025-08-25,effort-2025-11-24")]
    plain = "claude-code-20250219,interleaved-thinking-2025-05-14,effort-2025-11-24"
    assert to_vendor("anthropic", more, [])["anthropic-beta"] == plain
    with_mcp = to_vendor("anthropic", more, ["mcp"])["anthropic-beta"]
    assert with_mcp == "claude-code-20250219,interleaved-thinking-2025-05-14,mcp-client-2025-11-20,effort-2025-11-24"
    assert "anthropic-beta" not in to_vendor("openai", more, ["mcp"])


def test_answers_bring_limits_and_no_cookies() -> None:
    """Content type, limits and times to wait come back; cookies, accounts and addresses do not."""
    given = {
        "Content-Type": "text/event-stream",
        "Retry-After": "5",
        "anthropic-ratelimit-requests-remaining": "3",
        "x-ratelimit-limit-tokens": "9",
        "Set-Cookie": "a=b",
        "Location": "http://x/",
        "anthropic-organization-id": "o",
        "Content-Encoding": "gzip",
        "Connection": "close",
        "Server": "x",
    }
    assert sorted(to_agent(given.items())) == [
        "anthropic-ratelimit-requests-remaining",
        "content-type",
        "retry-after",
        "x-ratelimit-limit-tokens",
    ]


def test_keys_go_where_the_vendor_looks() -> None:
    """Each vendor's key has its header, and an agent's is found in all of them."""
    assert key_header("anthropic", "k") == {"x-api-key": "k"}
    assert key_header("openai", "k") == {"authorization": "Bearer k"}
    assert key_header("google", "k") == {"x-goog-api-key": "k"}
    for headers in ({"x-api-key": "k"}, {"x-goog-api-key": "k"}, {"authorization": "bearer  k"}):
        assert "k" in presented_keys(headers)
