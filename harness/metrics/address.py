"""The address the metrics are served on, as an option gives it: HOST:PORT."""

from __future__ import annotations


def parse_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT; raises ``ValueError`` for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("give HOST:PORT, such as 127.0.0.1:9477")
    return host.strip("[]"), int(port)


def check_address(text: str) -> str:
    """Return ``text`` if it is HOST:PORT or 'none'; raises ``ValueError`` for anything else."""
    if text != "none":
        parse_address(text)
    return text
