"""Where a server on this host is reached from this host. Pure."""

from typing import Final

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - connected to, not bound


def loopback_for_wildcard(host: str) -> str:
    """The host to connect to for a server that listens on `host`: a wildcard address is no destination everywhere."""
    return _LOOPBACK.get(host, host)


def build_base_url(host: str, port: int) -> str:
    """``http://host:port``, with an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
