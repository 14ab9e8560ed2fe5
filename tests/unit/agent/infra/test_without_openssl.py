"""Imports that find no OpenSSL."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from hive_agent.infra.without_openssl import without_openssl
with without_openssl():
    import aiohttp, hashlib
assert not {"ssl", "_ssl", "_hashlib"} & set(sys.modules), "loaded"
assert hashlib.sha256(b"x").hexdigest().startswith("2d711642")
import ssl
assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
with without_openssl():
    import ssl as found
assert found is ssl
"""


def test_later_imports_find_it() -> None:
    """Modules that are imported in the block do without it, and whoever needs TLS later has all of it."""
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)
