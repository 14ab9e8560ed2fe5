"""Listening sockets that the daemon makes and lends to agents: view socket, access socket, and the port of the page.

A harness gets a duplicate of a listening socket on a unix socket in its run directory, its *door* (SCM_RIGHTS,
unix(7)); with that it accepts connections itself. So the daemon alone decides what a listener is called and where it
lies, and nobody who connects resolves a path that an agent can write.

The connection to a door stays open while the duplicate is that of the daemon's listener, so its end tells an agent to
request the next one.
"""

from __future__ import annotations

from hive_core.api.lent_sockets.lender import MAX_KEPT, MAX_PENDING
from hive_core.api.lent_sockets.page_ports import PagePorts
from hive_core.api.lent_sockets.unix_sockets import SocketGroup, UnixSockets

__all__ = ["MAX_KEPT", "MAX_PENDING", "PagePorts", "SocketGroup", "UnixSockets"]
