"""What becomes the command of `codex-proxy run`: enters the fence, proves it, and then the command takes its place.

Run by its path and with the standard library alone. No process stands between `codex-proxy` and the command, so that
signals reach it and its exit code is the one that counts. The two talk over a socket, one JSON object a line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

NOT_FENCED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
"""Exit codes, as those of `env` and `timeout`."""

HTTP_PORT, SOCKS_PORT = 3128, 8081
"""Free in every new network namespace."""

PATIENCE = 60.0
"""Seconds that each step may take."""

BACKLOG = 4096

_SET_FLAGS, _UP = 0x8914, 0x1
_CLOSED = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

WAYS_OUT = (
    (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 443)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 443)),
)
"""Addresses for documentation (RFC 5737, RFC 3849), which lead nowhere even where there is a way out."""


class Failed(Exception):
    """The fence does not stand. The text is for the person who typed the command."""


class Talk:
    """The socket to `codex-proxy`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.settimeout(PATIENCE)
        self._lines = sock.makefile("rb")

    def say(self, **values: object) -> None:
        self._sock.sendall(json.dumps(values).encode() + b"\n")

    def hand_over(self, *sockets: socket.socket) -> None:
        socket.send_fds(self._sock, [b"\n"], [one.fileno() for one in sockets])

    def hear(self) -> dict[str, Any]:
        """Ends the process without a word when nobody is there any more."""
        line = self._lines.readline()
        if not line:
            sys.exit(NOT_FENCED)
        found = json.loads(line)
        assert isinstance(found, dict)
        return found


def main() -> NoReturn:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    talk = Talk(socket.socket(fileno=fd))
    try:
        if sys.argv[2] == "enforce":
            enter_namespace(talk)
        order = talk.hear()
        if sys.argv[2] == "enforce":
            insist_on_closed_ways()
        talk.say(refused=ask_for_refusal(order["proxy"], order["canary"]))
        talk.hear()
    except Exception as error:
        talk.say(failure=str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}")
        sys.exit(NOT_FENCED)
    become(order["command"], order["environment"], order["open_files"])


# -- a network of its own --------------------------------------------------------------------------------------------


def enter_namespace(talk: Talk) -> None:
    """A user and a network namespace: nothing in it but a loopback interface, and two listeners that the proxy has."""
    try:
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    except OSError as error:
        raise Failed(f"the kernel refuses a network namespace ({error.strerror})") from None
    talk.say(unshared=True)
    talk.hear()  # the users have their names again
    try:
        raise_loopback()
        listeners = [listen(HTTP_PORT), listen(SOCKS_PORT)]
    except OSError as error:
        raise Failed(f"the kernel refuses to set up the network namespace ({error.strerror})") from None
    talk.hand_over(*listeners)
    for listener in listeners:
        listener.close()


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP))


def listen(port: int) -> socket.socket:
    """As the proxy's own listeners; sockets stay in the namespace in which they were made."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(BACKLOG)
    return sock


def insist_on_closed_ways() -> None:
    """Raises `Failed` when there is any interface but loopback, or any way to an address beyond it."""
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        raise Failed("there is a network in the namespace")
    for family, kind, address in WAYS_OUT:
        if not leads_nowhere(family, kind, address):
            raise Failed(f"there is a way out of the namespace, to {address[0]}")


def leads_nowhere(family: int, kind: int, address: tuple[str, int]) -> bool:
    try:
        with socket.socket(family, kind) as probe:
            probe.settimeout(1)
            probe.connect(address)
    except OSError as error:
        return error.errno in _CLOSED
    return False


# -- the proof -------------------------------------------------------------------------------------------------------


def ask_for_refusal(proxy: str, host: str) -> str:
    """Asks the proxy for a host that nobody allows, and returns the id of the refusal. Raises `Failed`."""
    address, _, port = proxy.rpartition(":")
    head = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        with socket.socket(socket.AF_INET6 if "[" in address else socket.AF_INET) as sock:
            sock.settimeout(PATIENCE)
            sock.connect((address.strip("[]"), int(port)))
            sock.sendall(head.encode())
            answer = sock.makefile("rb").read(1 << 16).decode("latin-1")
    except OSError as error:
        raise Failed(f"the proxy cannot be reached from inside ({error.strerror or error})") from None
    status, *lines = answer.partition("\r\n\r\n")[0].split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status.split(" ")[1:2] != ["403"] or "x-proxy-request-id" not in fields:
        raise Failed(f"a host that nobody allows was not refused, but answered with {status!r}")
    return fields["x-proxy-request-id"]


# -- the command -----------------------------------------------------------------------------------------------------


def become(command: list[str], environment: dict[str, str], open_files: int) -> NoReturn:
    """Executes the command, with the limits and signals that it would have had without us."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, hard))
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - it is what was asked for
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        print(f"codex-proxy: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_FOUND if missing else NOT_EXECUTABLE)


if __name__ == "__main__":
    main()
