"""What has been done: positions, accounting, batch index, dead letters, leases. The only writer of those tables."""

from ledger.connection import Connection, connect

__all__ = ["Connection", "connect"]
