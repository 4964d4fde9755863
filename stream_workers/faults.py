"""What failpoints can do to the connection of a worker. Never called unless the setting `failpoints` asks for it."""

from __future__ import annotations

import os
import socket

from ledger import Connection


def cut(db: Connection) -> None:
    """Cut the connection under the worker's feet: its socket becomes one whose other end is closed."""
    near, far = socket.socketpair()
    far.close()
    os.dup2(near.fileno(), db.pgconn.socket)
    near.close()


def cut_at_commit(db: Connection) -> None:
    """Send COMMIT and cut the connection before the answer: the worker cannot know what happened."""
    db.pgconn.send_query(b"COMMIT")
    while db.pgconn.flush():
        pass
    cut(db)
