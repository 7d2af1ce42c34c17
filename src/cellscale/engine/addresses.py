"""Addresses of Ray clusters; Ray itself is not imported."""

from __future__ import annotations

import os


def is_local(address: str | None) -> bool:
    """Whether Ray is started on this machine: neither the argument nor RAY_ADDRESS names a cluster."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") == "local"
