"""The sockets of UDP associations. They leave half of the process's descriptors to everything else."""

from __future__ import annotations

import errno
import os
import resource
import socket
from ipaddress import IPv6Address

from .addressing import IPAddress
from .dialler import met_itself, place

Sender = tuple[str, int] | tuple[str, int, int, int]


def plain(address: Sender) -> Sender:
    """IPv4 where a socket for both families shows it as IPv6."""
    mapped = IPv6Address(address[0].partition("%")[0]).ipv4_mapped if ":" in address[0] else None
    return (str(mapped), address[1]) if mapped else address


def bound(local: Sender) -> socket.socket:
    """A non-blocking socket for datagrams, on any port of the same address. Raises `OSError`."""
    sock = _datagram_socket(socket.AF_INET6 if len(local) == 4 else socket.AF_INET)
    try:
        sock.bind((local[0], 0, *local[2:]))
    except BaseException:
        sock.close()
        raise
    return sock


def connected(address: IPAddress, port: int) -> socket.socket:
    """A non-blocking socket that exchanges datagrams with this address alone. Raises `OSError`."""
    family, sockaddr = place(address, port)
    sock = _datagram_socket(family)
    try:
        sock.connect(sockaddr)
        if met_itself(sock, port):
            raise ConnectionRefusedError
    except BaseException:
        sock.close()
        raise
    return sock


def out_of_descriptors() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _datagram_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # The kernel gives the lowest number that is free: all before it are taken, by whomever.
    if limit != resource.RLIM_INFINITY and sock.fileno() >= limit // 2:
        sock.close()
        raise out_of_descriptors()
    sock.setblocking(False)
    return sock
