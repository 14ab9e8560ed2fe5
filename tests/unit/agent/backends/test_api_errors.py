"""Judgements of refusals of the models' APIs, in the words of their services."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from hive_agent.backends.api_errors import classify_error
from hive_agent.backends.base import Failed

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
HOUR, DAY = 3_600.0, 86_400.0

QUOTA = "You exceeded your current quota, please check your plan and billing details."
LEFT = "You have exhausted your capacity on this model. Your quota will reset after"
UPGRADE = "You've hit your usage limit. Upgrade to Pro (https://openai.com/chatgpt/pricing) or try again"
REFUSALS: list[tuple[int | None, str, str, float | None]] = [
    # Anthropic
    (401, "invalid x-api-key", "login", None),
    (401, "OAuth token has expired. Please obtain a new token or refresh your existing token.", "login", None),
    (401, "OAuth authentication is currently not supported.", "login", None),
    (403, "OAuth token has been revoked. Please obtain a new token.", "login", None),
    (403, "Request not allowed", "login", None),
    (400, "This organization has been disabled.", "billing", None),
    (None, "API Error: 400 This organization has been disabled.", "billing", None),
    (400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.", "billing", None),
    (404, "model: claude-3-5-sonnet-20240620", "config", None),
    (413, "Request exceeds the maximum size", "too_long", None),
    (400, "prompt is too long: 205148 tokens > 200000 maximum", "too_long", None),
    (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000", "too_long", None),
    (400, "messages.3.content.0: unexpected `tool_use_id` found in `tool_result` blocks", "refused", None),
    (400, "Output blocked by content filtering policy", "refused", None),
    (429, "This request would exceed your account's rate limit. Please try again later.", "rate_limit", None),
    (429, "Number of request tokens has exceeded your per-minute rate limit", "rate_limit", None),
    (529, "Overloaded", "overloaded", None),
    (500, "Internal server error", "overloaded", None),
    (
        400,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        "rate_limit",
        12 * HOUR,
    ),
    (None, f"Claude AI usage limit reached|{NOW + 9_000:.0f}", "rate_limit", 9_000),
    (None, "You've hit your limit · resets 11pm (America/Anchorage)", "rate_limit", 20 * HOUR),
    (None, "You've hit your session limit · resets 12:50am (America/Los_Angeles)", "rate_limit", 20 * HOUR + 3_000),
    (None, "Weekly limit reached · resets 10am (Asia/Seoul) · /upgrade to Max", "rate_limit", 13 * HOUR),
    (None, "You've hit your weekly limit · resets Dec 2 at 7pm", "rate_limit", 2 * DAY + 7 * HOUR),
    (None, "5-hour limit reached ∙ resets 3pm", "rate_limit", 3 * HOUR),
    # Claude Code's own words
    (400, "Your ANTHROPIC_API_KEY belongs to a disabled organization · Update or unset the variable", "billing", None),
    (403, "Your organization has disabled API key authentication · Run /login to sign in", "login", None),
    (None, "Your organization has disabled API key authentication · Run /login to sign in", "login", None),
    (None, "OAuth token revoked · Please run /login", "login", None),
    (None, "Login reached its time limit · Please run /login", "login", None),
    (None, "Not logged in · Please run /login", "login", None),
    # OpenAI
    (401, "Incorrect API key provided: sk-x. You can find your API key at https://platform.openai.com", "login", None),
    (401, "Your authentication token has been invalidated. Please try signing in again.", "login", None),
    (None, "unexpected status 401 Unauthorized: Missing bearer or basic authentication in header", "login", None),
    (403, "You have insufficient permissions for this operation. Missing scopes: model.request.", "login", None),
    (429, QUOTA, "billing", None),
    (None, f"stream disconnected before completion: {QUOTA}", "billing", None),
    (None, f"Error code: 429 - {{'error': {{'message': '{QUOTA}', 'type': 'insufficient_quota'}}}}", "billing", None),
    (
        429,
        "Rate limit reached for o4-mini in organization org-x on requests per day (RPD): Limit 200, Used 200, "
        "Requested 1. Please try again in 7m12s. You can increase it by adding a payment method to your account.",
        "rate_limit",
        432,
    ),
    (429, "Rate limit reached for gpt-5 on tokens per min (TPM). Please try again in 558ms.", "rate_limit", 0.558),
    (None, f"{UPGRADE} in 5 days 22 hours 11 minutes.", "rate_limit", 5 * DAY + 22 * HOUR + 660),
    (None, f"{UPGRADE} in 3 hours.", "rate_limit", 3 * HOUR),
    (None, f"{UPGRADE} at Dec 5th, 2026 8:19 PM.", "rate_limit", 5 * DAY + 8 * HOUR + 19 * 60),
    (None, f"{UPGRADE} at Dec 1, 2026, 7:38 AM.", "rate_limit", 19 * HOUR + 38 * 60),
    (None, f"{UPGRADE} at 11:37 PM.", "rate_limit", 11 * HOUR + 37 * 60),
    (
        429,
        '{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","plan_type":"free",'
        '"resets_at":1796642705,"resets_in_seconds":602705}}',
        "rate_limit",
        602_705,
    ),
    (None, "exceeded retry limit, last status: 429 Too Many Requests, request id: 9c84b52-SJC", "rate_limit", None),
    (404, "The model `gpt-9` does not exist or you do not have access to it.", "config", None),
    (404, "Item with id 'rs_68' not found. Items are not persisted when `store` is set to false.", "refused", None),
    (400, "Your input exceeds the context window of this model. Please adjust your input.", "too_long", None),
    (503, "The server is currently overloaded with other requests.", "overloaded", None),
    # Google
    (400, "API key not valid. Please pass a valid API key.", "login", None),
    (400, "API key expired. Please renew the API key.", "login", None),
    (403, "Your API key was reported as leaked. Please use another API key.", "login", None),
    (403, "Permission denied: Consumer 'api_key:AIza' has been suspended.", "billing", None),
    (None, f"{LEFT} 21h33m.", "rate_limit", 21 * HOUR + 33 * 60),
    (None, f"[Backend Error] {LEFT} 4h28m20s. (HTTP 429)", "rate_limit", 4 * HOUR + 28 * 60 + 20),
    (429, f"{LEFT} 161h39m41s.", "rate_limit", 161 * HOUR + 39 * 60 + 41),
    (
        429,
        '{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"reason": "QUOTA_EXHAUSTED", "metadata": '
        '{"quotaResetTimeStamp": "2026-12-01T13:20:26Z"}}]}}',
        "rate_limit",
        25 * HOUR + 20 * 60 + 26,
    ),
    (
        429,
        f"{QUOTA} For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n"
        "* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 9\n"
        'Please retry in 38.5s. {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s"}',
        "rate_limit",
        38.5,
    ),
    (429, "Resource has been exhausted (e.g. check quota).", "rate_limit", None),
    (503, "The model is overloaded. Please try again later.", "overloaded", None),
    (400, "The input token count (1048577) exceeds the maximum number of tokens allowed.", "too_long", None),
    (404, "models/gemini-9 is not found for API version v1beta", "config", None),
    (400, "User location is not supported for the API use.", "refused", None),
    # OpenRouter
    (401, "User not found.", "login", None),
    (401, "No auth credentials found", "login", None),
    (401, "No cookie auth credentials found", "login", None),
    (None, "No auth credentials found", "login", None),
    (402, "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens", "billing", None),
    (None, "402 Insufficient credits. Add more using https://openrouter.ai/settings/credits", "billing", None),
    (403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys", "billing", None),
    (403, "Your chosen model requires moderation and your input was flagged.", "refused", None),
    (404, "No endpoints found for deepseek/deepseek-r1:free.", "config", None),
    (
        429,
        "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day "
        f'{{"headers":{{"X-RateLimit-Reset":"{NOW + 12 * HOUR:.0f}000"}}}}',
        "rate_limit",
        12 * HOUR,
    ),
    (502, "Provider returned error", "overloaded", None),
    # Others, and gateways
    (429, "Too many requests. Retry-After: 30", "rate_limit", 30),
    (503, 'upstream is busy, {"retry_after": "PT5M30S"}', "overloaded", 330),
]


BUDGET = (
    "hyperhive budget: ada's spending limit of $5 a day does not allow this call. It may need $0.2; $4.9 is spent and "
    "$0.05 reserved. It begins anew at 2026-12-01 00:00 UTC. The operator can raise it: hive-c0re budget ada --add "
    "AMOUNT"
)
KEY = "hyperhive stopped: the provider main does not accept the hive's key: the operator has to replace it"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's time zone is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("status", "words", "judged", "seconds"), REFUSALS)
def test_refusals(status: int | None, words: str, judged: str, seconds: float | None) -> None:
    """A refusal is judged by its status and then its words, and the time until it ends is read whole."""
    outcome = classify_error(words, status, now=NOW)
    assert (outcome.kind if isinstance(outcome, Failed) else "login") == judged
    assert outcome.detail == words
    if isinstance(outcome, Failed):
        assert outcome.retry_after == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "shown",
    [
        "Failed to authenticate. API Error: 403 {}",  # Claude Code
        "{}",  # opencode
        "unexpected status 403 Forbidden: {}, url: http://127.0.0.1:3129/main/v1/responses",  # codex
        '[API Error: {{"error":{{"code":403,"message":"{}","status":"PERMISSION_DENIED"}}}}]',  # gemini
    ],
)
def test_refusals_of_the_hive(shown: str) -> None:
    """The hive's own refusals are known in the words of each program, with the time at which a budget's day ends."""
    assert classify_error(shown.format(BUDGET), now=NOW) == Failed("budget", BUDGET, 12 * HOUR)
    assert classify_error(shown.format(BUDGET), now=NOW + DAY) == Failed("budget", BUDGET, 0.0)
    assert classify_error(shown.format(KEY), now=NOW) == Failed("stopped", KEY)


@pytest.mark.parametrize(
    "words",
    [
        "resets 10am (Nowhere/Land)",
        "try again at Feb 31 at 7pm",
        "try again at 99:99 PM",
        "retry after 9999999999999999999999 days",
        "reset on 0000-00-00 at 00:00 UTC",
        "reset 9999999999999",
        "wait 0 s",
        "retry in " + "1" * 3_000 + "s",
        "retry in " + "1 " * 2_000,
        "retry " + "reset " * 700,
    ],
)
def test_times_that_make_no_sense(words: str) -> None:
    """A time that does not exist, is over or is too far away is none; a long text takes no long time."""
    began = time.perf_counter()
    outcome = classify_error(words, 429, now=NOW)
    assert isinstance(outcome, Failed)
    assert outcome.retry_after is None or 0 < outcome.retry_after <= 366 * DAY
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (f"{UPGRADE} at 12:00 PM.", 20.0),
        (f"{UPGRADE} at Nov 30th, 2026 12:00 PM.", 20.0),
        ("You've hit your weekly limit · resets Nov 30 at 12pm", 20.0),
        (f"{UPGRADE} at 11:59 AM.", DAY - 100.0),
    ],
)
def test_a_limit_that_ends_within_this_minute(words: str, seconds: float) -> None:
    """A time of day without seconds that has just come is not that of tomorrow: the limit ends within the minute.

    The harness wakes up at exactly that time, so it meets this whenever the service has cut the seconds off.
    """
    outcome = classify_error(words, 429, now=NOW + 40)
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == pytest.approx(seconds)


def test_a_given_time_comes_first() -> None:
    """A header of the answer takes precedence over the text."""
    outcome = classify_error("Please try again in 7m12s", 429, 5.0, now=NOW)
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == 5.0
