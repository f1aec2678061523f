"""The socket that a server listens on, and the address that leads to it."""

from __future__ import annotations

import re
import socket

from consistent_gen.errors import InputError

BACKLOG = 2048


def listen(host: str, port: int, inherited: int | None = None) -> socket.socket:
    """A bound socket, so that a port that is taken is noticed before anything is loaded.

    Raises:
        InputError: it is taken, or this machine has no such address.
    """
    if inherited is not None:
        return socket.socket(fileno=inherited)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends small answers at once (TCP_NODELAY) only where it sees this number.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {host} port {port}: {error.strerror}; "
            "choose another with --port (0 takes a free one)"
        ) from None
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


def address_of(listener: socket.socket) -> str:
    """The address by which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def place_of(listener: socket.socket) -> str:
    """A name for the gateway at a socket that no other has, on this machine or another one, and
    that it has again after a new start.
    """
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())[:60]
    return f"{host}:{listener.getsockname()[1]}"
