"""Host headers: whether a request means this server.

A page of a stranger can lead a name of its own to any address (DNS rebinding), and so have a
browser ask a server that only the browser's machine can reach. Its requests have that name as host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def host_of(host: str) -> str | None:
    """The name or address in a Host header, without port and brackets; None if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.netloc != host or "@" in host or not parts.hostname:
            return None
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname.casefold().rstrip(".")


def is_meant(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header has an address, localhost, or one of some names in small letters."""
    name = host_of(host)
    if name is None:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in names
    return True
