"""A proxy of the environment is not the way to a service on this machine."""

from __future__ import annotations

import os

_LOOPBACK = ("127.0.0.1", "localhost")


def spare_loopback() -> None:
    """Let HTTP clients of this process reach loopback addresses directly, whatever HTTP_PROXY says."""
    for name in [name for name in ("no_proxy", "NO_PROXY") if os.environ.get(name)] or ["no_proxy"]:
        hosts = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])
