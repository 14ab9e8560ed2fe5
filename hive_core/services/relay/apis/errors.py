"""Errors in the shapes of the vendors' APIs, so that agents' programs understand them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hive_core.protocol.models.budgets import ALL, BudgetRefusal
from hive_core.protocol.models.refusals import MARKS, new_day_text
from hive_core.protocol.models.vendors import VendorApi

_ANTHROPIC: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_OPENAI: Mapping[int, str] = {401: "authentication_error", 429: "rate_limit_error"}
_GOOGLE: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def error_body(api: VendorApi, status: int, message: str, code: str = "") -> bytes:
    """Return the body of an error. `code` tells programs of the hive which refusal it is."""
    return json.dumps(_error(api, status, message, code)).encode()


def error_event(api: VendorApi, message: str) -> bytes:
    """Return the event with which a stream ends that cannot go on."""
    error = json.dumps(_error(api, 503, message, "relay_stopping"))
    head = {"anthropic": "event: error\n", "openai": "event: error\n", "google": ""}[api]
    return f"{head}data: {error}\n\n".encode()


def _error(api: VendorApi, status: int, message: str, code: str) -> dict[str, Any]:
    if api == "anthropic":
        kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    if api == "openai":
        kind = _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}
    return {"error": {"code": status, "message": message, "status": _GOOGLE.get(status, "INTERNAL")}}


def budget_message(agent: str, refusal: BudgetRefusal) -> str:
    """Return the sentence about a refusal by a budget, with its numbers."""

    def amount(value: float) -> str:
        return f"${value:,.4f}".rstrip("0").rstrip(".") if refusal.measure == "money" else f"{value:,.0f}"

    whose = "the hive's" if refusal.whose == ALL else f"{refusal.whose}'s"
    what = {"money": "spending limit", "tokens": "limit of tokens", "calls": "limit of calls"}[refusal.measure]
    period = "a day" if refusal.period == "day" else "in all"
    until = "" if refusal.until is None else f"{new_day_text(refusal.until)} "
    limit = f"{refusal.measure}_{'per_day' if refusal.period == 'day' else 'total'}"
    if refusal.measure == "money":
        raised = f"hive-c0re budget {ALL if refusal.whose == ALL else agent} --add AMOUNT"
    else:
        raised = f"{limit} of {'budget.hive in the settings' if refusal.whose == ALL else '[budget] in agent.toml'}"
    return (
        f"{MARKS['budget']} {whose} {what} of {amount(refusal.limit)} {period} does not allow this call. It may need"
        f" {amount(refusal.reserve)}; {amount(refusal.spent)} is spent and {amount(refusal.reserved)} reserved. {until}"
        f"The operator can raise it: {raised}"
    )
