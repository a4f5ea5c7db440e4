"""Tells systemd how the service is doing; without systemd every call does nothing.

The protocol is one datagram of KEY=VALUE lines to the socket that $NOTIFY_SOCKET names, sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*lines: str) -> None:
    """Sends lines such as "READY=1" or "STATUS=..."; a failure is no reason to stop inspecting."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
    ):
        channel.sendto("\n".join(lines).encode(), address)
