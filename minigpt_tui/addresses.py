"""Which addresses are this machine. Knows nothing of who listens there."""

from __future__ import annotations

import ipaddress


def is_this_machine(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
