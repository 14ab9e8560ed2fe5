"""Decisions about requests, TLS and addresses: pure functions, whose input is what agents and servers send."""
