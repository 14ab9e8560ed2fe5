"""Services of clouds that give a machine's credentials and settings to whoever asks from that machine.

Most of them have link-local or private addresses, which are refused anyway. These lists are for the others, for names
that would only be looked up in vain, and for the reason that a refusal gives. The sources are the vendors' manuals.
"""

from __future__ import annotations

METADATA_ADDRESSES = (
    "169.254.169.254",  # Amazon, Google, Azure, OpenStack, DigitalOcean, Hetzner, Oracle, IBM, ...
    "fd00:ec2::254",  # Amazon
    "169.254.170.2",  # Amazon ECS: credentials of tasks
    "169.254.170.23",  # Amazon EKS: credentials of pods
    "fd00:ec2::23",
    "fd20:ce::254",  # Google
    "168.63.129.16",  # Azure: the host's agent, in the public range
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle, older
    "169.254.42.42",  # Scaleway
    "fd00:42::42",
    "169.254.0.23",  # Tencent
    "fe80::a9fe:a9fe",  # OpenStack over IPv6
    "192.80.8.124",  # Equinix Metal, in the public range
)
METADATA_NAMES = frozenset(
    {
        "metadata.google.internal",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.cloud.com",
    }
)
