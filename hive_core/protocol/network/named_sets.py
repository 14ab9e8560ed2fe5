"""Sets of rules that are shipped: the hosts that well-known programs need, under one name each.

A set names hosts that serve what the name says, and none below which everybody can publish pages. Several of them are
places to which whoever has an account can also write (`github`): docs/network.md says what that means.
"""

from __future__ import annotations

SET_OF_BACKEND = {"claude": "anthropic", "codex": "openai", "gemini": "google"}
"""The set with the API of the vendor whose models a backend uses; opencode uses those of many."""

NAMED_SETS: dict[str, tuple[str, ...]] = {
    "anthropic": ("api.anthropic.com", "claude.ai", "console.anthropic.com", "platform.claude.com"),
    "debian": (
        *("deb.debian.org", "security.debian.org", "ftp.debian.org", "snapshot.debian.org"),
        *("cdn-fastly.deb.debian.org", "debian.map.fastlydns.net"),
    ),
    "github": (
        *("github.com", "github.com:22", "api.github.com", "codeload.github.com", "uploads.github.com"),
        *("ssh.github.com", "raw.githubusercontent.com", "objects.githubusercontent.com"),
        *("release-assets.githubusercontent.com", "media.githubusercontent.com"),
        "github-cloud.githubusercontent.com",
    ),
    "google": (
        *("generativelanguage.googleapis.com", "cloudcode-pa.googleapis.com", "aiplatform.googleapis.com"),
        *("oauth2.googleapis.com", "accounts.google.com"),
    ),
    "nix-cache": ("cache.nixos.org", "channels.nixos.org", "releases.nixos.org", "tarballs.nixos.org"),
    "npm": ("registry.npmjs.org",),
    "openai": ("api.openai.com", "auth.openai.com", "chatgpt.com"),
    "pypi": ("pypi.org", "files.pythonhosted.org"),
}
