"""Waiting for many sockets at little cost, for the load client and the origin."""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from typing import Protocol

Ready = Callable[[], None]


class Channel(Protocol):
    """A socket, or anything else that can be waited for."""

    def fileno(self) -> int: ...


class Poller(Protocol):
    """Calls a function whenever a channel can be read. Expect `BlockingIOError`: a call may come for nothing."""

    def watch(self, channel: Channel, ready: Ready, write: bool = False) -> None:
        """Sets the function, and whether it is called for room to write as well."""
        ...

    def forget(self, channel: Channel) -> None:
        """Must be called before the channel is closed."""
        ...

    def once(self, timeout: float) -> None:
        """Waits at most `timeout` seconds, and serves what is ready then."""
        ...

    def close(self) -> None: ...


class EpollPoller:
    """A closed descriptor leaves epoll by itself, so forgetting costs no system call."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}

    def watch(self, channel: Channel, ready: Ready, write: bool = False) -> None:
        number = channel.fileno()
        mask = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        if number in self._ready:
            self._epoll.modify(number, mask)
        else:
            self._epoll.register(number, mask)
        self._ready[number] = ready

    def forget(self, channel: Channel) -> None:
        self._ready.pop(channel.fileno(), None)

    def once(self, timeout: float) -> None:
        for number, _ in self._epoll.poll(timeout):
            if ready := self._ready.get(number):
                ready()

    def close(self) -> None:
        self._epoll.close()


class SelectorPoller:
    """The same where there is no epoll: the standard library finds kqueue or better than nothing."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, channel: Channel, ready: Ready, write: bool = False) -> None:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        change = self._selector.modify if channel.fileno() in self._selector.get_map() else self._selector.register
        change(channel, mask, ready)

    def forget(self, channel: Channel) -> None:
        if channel.fileno() in self._selector.get_map():
            self._selector.unregister(channel)

    def once(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            # An earlier one in this round may have forgotten it.
            if key.fd in self._selector.get_map():
                key.data()

    def close(self) -> None:
        self._selector.close()


def new_poller() -> Poller:
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()
