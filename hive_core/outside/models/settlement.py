"""The cost of a call that has ended, by what the vendor has told, and how far its figures can be believed. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.outside.models.prices import FoundPrice, PriceTable, price_of, tokens_of
from hive_core.protocol.models.link import RelaySettle
from hive_core.protocol.models.providers import ProviderSettings
from hive_core.protocol.models.usage import TokenCounts

_MOST_BYTES_PER_TOKEN = 50
"""No usual text has so few tokens: figures below that are not believed."""
_OVERHEAD_TOKENS = 20_000
"""Tokens of a vendor's own instructions, beyond those of a request."""
_FEW_BYTES = 200
UNCERTAIN = frozenset({"unknown_model", "reserve", "estimated", "implausible"})
"""Flags of calls whose cost is not by figures of the vendor's that are believed."""


@dataclass(frozen=True)
class OpenCall:
    """The facts about a call before it ends; money is in nanodollars."""

    provider: str
    requested: str
    bytes: int
    max_tokens: int
    unbounded: bool
    fast: bool
    reserve: int
    reserve_tokens: int


@dataclass(frozen=True)
class CallCost:
    """The figures of a call: its cost in nanodollars, its tokens, and `counted` of them in budgets."""

    cost: int
    counted: int
    tokens: TokenCounts
    flags: tuple[str, ...] = ()


def find_price(prices: PriceTable, provider: ProviderSettings | None, *models: str) -> FoundPrice:
    """Return the price of the first of the models that is known. A provider that is gone has the dearest of all."""
    if provider is not None and provider.rates is not None:
        return FoundPrice(price_of(provider.rates), True)
    api = "anthropic" if provider is None else provider.api
    found = [prices.find(api, model) for model in models if model]
    return next((each for each in found if each.known), found[0] if found else prices.find(api, ""))


def settle(call: OpenCall, end: RelaySettle, price: FoundPrice) -> CallCost:
    """Return what a call is counted with.

    What was not sent, and what the vendor has refused, costs nothing. Otherwise the vendor's figures count; of an
    answer that broke off, those told so far, and the text that came; without usable figures, the reserve.
    """
    refused = end.outcome == "failed" and end.status is not None and end.tokens is None
    if end.outcome == "not_sent" or refused:
        return CallCost(0, 0, TokenCounts())
    flags = [] if price.known else ["unknown_model"]
    tokens = end.tokens
    if tokens is None or tokens.total == 0:
        if tokens is not None:
            flags.append("implausible")
        return CallCost(call.reserve, call.reserve_tokens, TokenCounts(), (*flags, "reserve"))
    written = tokens_of(end.answered_bytes)
    if not end.complete:
        flags.append("estimated")
        tokens = tokens.model_copy(update={"output": max(tokens.output, written)})
    elif _is_implausible(call, end, tokens):
        flags.append("implausible")
        if end.answered_bytes > max(_FEW_BYTES, tokens.output * _MOST_BYTES_PER_TOKEN):
            tokens = tokens.model_copy(update={"output": max(tokens.output, written)})
    cost = price.price.cost(tokens, fast=call.fast)
    if end.complete and tokens.total == tokens.output:  # No input at all: the request is counted as reserved.
        cost, counted = max(cost, call.reserve), max(tokens.total, call.reserve_tokens)
        flags.append("reserve")
    else:
        counted = tokens.total
    if cost > call.reserve:
        flags.append("over_reserve")
    return CallCost(cost, counted, tokens, tuple(flags))


def _is_implausible(call: OpenCall, end: RelaySettle, tokens: TokenCounts) -> bool:
    given = tokens.total - tokens.output
    return (
        given == 0
        or (given > call.bytes + _OVERHEAD_TOKENS and not call.unbounded)
        or tokens.output > call.max_tokens * 2 + _OVERHEAD_TOKENS
        or tokens.reasoning > tokens.output
        or end.answered_bytes > max(_FEW_BYTES, tokens.output * _MOST_BYTES_PER_TOKEN)
    )
