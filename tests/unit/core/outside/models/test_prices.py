"""Prices of models."""

from __future__ import annotations

import re

import pytest

from hive_core.outside.models.prices import NANO, price_of, shipped_prices, to_dollars, to_nano
from hive_core.protocol.models.providers import ModelRates
from hive_core.protocol.models.usage import TokenCounts
from hive_core.protocol.models.vendors import VendorApi

MILLION = 1_000_000


def test_the_table_has_a_date() -> None:
    """Whoever reads a cost can say from when its prices are."""
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", shipped_prices().day)


@pytest.mark.parametrize(
    ("vendor", "name", "like"),
    [
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("openai", "gpt-5.2-chat-latest", "gpt-5.2-chat"),
        ("google", "models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("openai", "gpt-4o-2024-11-20", "gpt-4o"),
    ],
)
def test_models_are_found_with_their_date(vendor: VendorApi, name: str, like: str) -> None:
    """A name with a date, with `latest` or as Google writes it has the price of the model."""
    table = shipped_prices()
    assert table.find(vendor, name) == table.find(vendor, like)
    assert table.find(vendor, name).known


def test_a_date_can_have_a_price_of_its_own() -> None:
    """A dated name that is in the table is not taken for the undated one."""
    table = shipped_prices()
    assert table.find("openai", "gpt-4o-2024-05-13") != table.find("openai", "gpt-4o")


@pytest.mark.parametrize("vendor", ["anthropic", "openai", "google"])
def test_an_unknown_model_has_the_dearest_price(vendor: VendorApi) -> None:
    """No model of a vendor costs more than one that is not known, and it is said."""
    table = shipped_prices()
    found = table.find(vendor, "something-new")
    assert not found.known
    most = found.price.most(10 * MILLION, MILLION)
    assert all(price.most(10 * MILLION, MILLION) <= most for price in table._prices[vendor].values())


def test_each_kind_of_token_has_its_price() -> None:
    """A call costs the sum of its tokens by their rates, and a search its own."""
    price = shipped_prices().find("anthropic", "claude-opus-4-8").price
    assert price.cost(TokenCounts(input=MILLION)) == 5 * NANO
    assert price.cost(TokenCounts(output=MILLION)) == 25 * NANO
    assert price.cost(TokenCounts(cache_read=MILLION)) == NANO // 2
    assert price.cost(TokenCounts(cache_write=MILLION)) == 6_250_000_000
    assert price.cost(TokenCounts(cache_write_hour=MILLION)) == 10 * NANO
    assert price.cost(TokenCounts(searches=1)) == NANO // 100
    assert price.cost(TokenCounts(input=MILLION), fast=True) == 30 * NANO


def test_long_calls_have_the_rates_of_long_ones() -> None:
    """Above the limit the whole call is dearer, with what is read from a cache counted in."""
    price = shipped_prices().find("google", "gemini-2.5-pro").price
    assert price.cost(TokenCounts(input=200_000, output=0)) == 250_000_000
    assert price.cost(TokenCounts(input=199_999, cache_read=2)) > 499_000_000


def test_costs_are_rounded_up() -> None:
    """The cheapest token is not free."""
    price = price_of(ModelRates(input=0.0001, output=0))
    assert price.cost(TokenCounts(input=1)) == 1
    assert price.most(1, 0) == 1


@pytest.mark.parametrize("rates", [{"input": 3, "output": 4}, {"input": 3, "output": 4, "cache_write_hour": 9}])
def test_a_reserve_covers_every_kind_of_token(rates: dict[str, float]) -> None:
    """However the tokens of a call are divided, it costs no more than its reserve."""
    price = price_of(ModelRates.model_validate(rates))
    most = price.most(1_000, 500)
    for name in ("input", "cache_read", "cache_write", "cache_write_hour"):
        assert price.cost(TokenCounts.model_validate({name: 1_000, "output": 500})) <= most


def test_money_survives_the_conversion() -> None:
    """Amounts as people write them are exact."""
    for amount in (0.1, 0.07, 5.0, 1234567.89):
        assert to_dollars(to_nano(amount)) == amount
