"""A small hive, as for the tests of the API."""

from tests.integration.api.conftest import hive, shared

__all__ = ["hive", "shared"]
