"""A connected socket as the pair of streams that the engine works with."""

from __future__ import annotations

import asyncio
import socket

READ_LIMIT = 64 * 1024
"""Bytes a stream reader holds before the sender is made to wait."""


async def streams_over(sock: socket.socket, received: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams that begin with what was `received` already. From here on the socket belongs to them."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_LIMIT, loop=loop)
    reader.feed_data(received)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
