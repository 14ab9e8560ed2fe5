"""The facts that the daemon has told the relay: providers with their keys, and what each agent may use of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog

from hive_core.protocol.models.link import RelayAgent, RelayProvider
from hive_core.protocol.models.providers import DEFAULT_URLS, ProviderAccess
from hive_core.services.relay.apis.base import CallTerms
from hive_core.services.relay.keys import KeyDirectory, KeyUnusable, VendorKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Provider:
    """A provider with its keys. Without any, although it names some, it cannot be used."""

    settings: RelayProvider
    keys: tuple[VendorKey, ...]

    @property
    def usable(self) -> bool:
        """Return True if there is a key, or none is needed."""
        return bool(self.keys) or not self.settings.keys

    def terms(self, access: ProviderAccess) -> CallTerms:
        """Return what a call of an agent may use."""
        vendor = urlsplit(DEFAULT_URLS[self.settings.api]).hostname
        return CallTerms(
            frozenset(access.features),
            tuple(access.models),
            frozenset(self.settings.fields),
            self.settings.max_output_tokens,
            urlsplit(self.settings.base_url).hostname == vendor,
        )


@dataclass
class RelayPolicy:
    """Providers and agents by name; `credentials` is the directory of the keys, if there is one."""

    credentials: KeyDirectory | None
    providers: dict[str, Provider] = field(default_factory=dict)
    agents: dict[str, Mapping[str, ProviderAccess]] = field(default_factory=dict)
    _sent: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Begin to take in everything anew; what is known goes on meanwhile."""
        self._sent = set()

    def put_provider(self, settings: RelayProvider) -> None:
        """Add a provider, or replace it, and read its keys."""
        keys: list[VendorKey] = []
        for name in settings.keys:
            try:
                if self.credentials is None:
                    raise KeyUnusable(f"the credential {name} is not there: the relay was started without credentials")
                keys.append(self.credentials.read(name))
            except KeyUnusable as error:
                log.warning("a credential cannot be used", provider=settings.name, reason=str(error))
        self.providers[settings.name] = Provider(settings, tuple(keys))
        self._sent.add(settings.name)

    def put_agent(self, agent: RelayAgent) -> None:
        """Add an agent, or replace what it may use."""
        self.agents[agent.name] = {access.provider: access for access in agent.access}
        self._sent.add(f"agent:{agent.name}")

    def remove_agent(self, name: str) -> None:
        """Remove an agent."""
        self.agents.pop(name, None)

    def finish(self) -> list[str]:
        """Remove providers and agents that were not sent; return the names of those agents."""
        self.providers = {name: each for name, each in self.providers.items() if name in self._sent}
        gone = [name for name in self.agents if f"agent:{name}" not in self._sent]
        for name in gone:
            del self.agents[name]
        return gone
