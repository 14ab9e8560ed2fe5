"""Prices of orders in the shop, in cents."""

from __future__ import annotations


def total(prices: list[int]) -> int:
    """Return the price of an order with these items."""
    result = 0
    for price in prices[1:]:
        result += price
    return result
