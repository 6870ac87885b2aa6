"""Which upstream proxy a connection takes, if any: `HTTP_PROXY` and its like, read once (spec A6, B4.9)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from .addresses import AddressClass, classify
from .decision import HttpUse, IPAddress, NetworkPolicyRequest, NetworkProtocol
from .domains import PatternSet
from .errors import InvalidHost, InvalidPattern, shown
from .hosts import Endpoint, Host, parse_endpoint
from .listeners import LOOPBACK
from .patterns import DomainPattern, PatternKind, parse_pattern

IsOwnListener = Callable[[IPAddress, int], bool]

_SECURE = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_PLAIN = ("HTTP_PROXY", "ALL_PROXY")
_EXCEPTIONS = "NO_PROXY"
_PORTS = {"http": 80, "https": 443}
_LOCALHOST = Host("localhost")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_URL_REST = re.compile(r"[/?#\\]")


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """An HTTP proxy that connections are made through.

    `secure`: it is spoken to over TLS. `authorization` is the value of `Proxy-Authorization`, and a secret.
    """

    endpoint: Endpoint
    secure: bool = False
    authorization: str | None = field(default=None, repr=False)

    def is_own(self, is_own_listener: IsOwnListener) -> bool:
        """Whether it is written as an address at which this very proxy listens. A name is not looked up for that."""
        host = self.endpoint.host
        address = LOOPBACK if host == _LOCALHOST else host.address
        return address is not None and is_own_listener(address, self.endpoint.port)

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.endpoint}"


@dataclass(frozen=True, slots=True)
class UpstreamRoutes:
    """The upstream proxies of the environment, by the capital name of their variable, and what goes past them."""

    proxies: Mapping[str, UpstreamProxy] = MappingProxyType({})
    exceptions: PatternSet = field(default_factory=PatternSet)

    def choose(self, target: Endpoint, *, secure: bool, is_own_listener: IsOwnListener) -> UpstreamProxy | None:
        """The proxy for a tunnel or `https:` (`secure`), or for plain HTTP; `None` means a direct connection.

        This machine and addresses that are not public never take one: seen from there they are others, or nobody's.
        """
        if not self.proxies or _is_near(target.host) or self.exceptions.match(target.host, target.port):
            return None
        return self.first(secure=secure, is_own_listener=is_own_listener)

    def first(self, *, secure: bool, is_own_listener: IsOwnListener) -> UpstreamProxy | None:
        """The proxy for targets that are no exceptions."""
        candidates = (self.proxies.get(variable) for variable in (_SECURE if secure else _PLAIN))
        return next((proxy for proxy in candidates if proxy and not proxy.is_own(is_own_listener)), None)

    def own(self, is_own_listener: IsOwnListener) -> list[str]:
        """The variables that name this very proxy. They are passed over: it would call itself for ever."""
        return [variable for variable, proxy in self.proxies.items() if proxy.is_own(is_own_listener)]


DIRECT = UpstreamRoutes()


def read_routes(environ: Mapping[str, str]) -> tuple[UpstreamRoutes, tuple[str, ...]]:
    """What the environment says, and a warning for each part of it that cannot be used. No warning holds a password.

    Of both spellings of a variable, the capitals count first; one that is blank or unusable is passed over.
    """
    warnings: list[str] = []
    proxies = {variable: proxy for variable in _SECURE if (proxy := _read_proxy(environ, variable, warnings))}
    exceptions = _read_exceptions(environ, warnings)
    if exceptions is None:
        proxies.clear()
    return UpstreamRoutes(MappingProxyType(proxies), PatternSet(exceptions or ())), tuple(warnings)


def route_of(
    routes: UpstreamRoutes, request: NetworkPolicyRequest, is_own_listener: IsOwnListener
) -> UpstreamProxy | None:
    """The upstream proxy that a request takes under these routes. Datagrams never take one."""
    if not routes.proxies or request.protocol is NetworkProtocol.SOCKS5_UDP:
        return None
    secure = not isinstance(request.use, HttpUse) or request.use.secure
    return routes.choose(request.target, secure=secure, is_own_listener=is_own_listener)


def _is_near(host: Host) -> bool:
    """Names below `localhost` are this machine as well (RFC 6761 section 6.3)."""
    if host.address is not None:
        return classify(host.address) is not AddressClass.PUBLIC
    return f".{host.text}".endswith(f".{_LOCALHOST}")


def _values(environ: Mapping[str, str], variable: str) -> list[tuple[str, str]]:
    """What is set under this name, capitals first, blank values left out."""
    found = ((name, environ.get(name, "").strip()) for name in (variable, variable.lower()))
    return [(name, value) for name, value in found if value]


def _read_proxy(environ: Mapping[str, str], variable: str, warnings: list[str]) -> UpstreamProxy | None:
    for name, value in _values(environ, variable):
        found = _SCHEME.fullmatch(value)
        scheme, rest = (found[1].lower(), found[2]) if found else ("http", value)
        if scheme not in _PORTS:
            warnings.append(f"ignoring {name}: non-http proxy protocol")
            continue
        try:
            return _parse_proxy(scheme, rest)
        except InvalidHost as error:
            warnings.append(f"ignoring {name}: invalid proxy address ({error})")
    return None


def _parse_proxy(scheme: str, rest: str) -> UpstreamProxy:
    """Reads what stands behind `http://`. Raises `InvalidHost`, whose text shows nothing of a user name or password."""
    authority, *path = _URL_REST.split(rest, maxsplit=1)
    if path and "@" in path[0]:
        raise InvalidHost("write special characters of the user name and password as %XX")
    user_info, _, host = authority.rpartition("@")
    endpoint = parse_endpoint(host, _PORTS[scheme])
    return UpstreamProxy(endpoint, scheme == "https", _basic(user_info) if user_info else None)


def _basic(user_info: str) -> str:
    """The credentials as `Proxy-Authorization` carries them (RFC 7617)."""
    # The environment may hold any bytes; what is not UTF-8 comes as surrogates.
    user, _, password = user_info.encode("utf-8", "surrogateescape").partition(b":")
    pair = b"%b:%b" % (unquote_to_bytes(user), unquote_to_bytes(password))
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _read_exceptions(environ: Mapping[str, str], warnings: list[str]) -> Sequence[DomainPattern] | None:
    """The targets that take no proxy; `None` for all of them."""
    patterns: list[DomainPattern] = []
    name, value = next(iter(_values(environ, _EXCEPTIONS)), (_EXCEPTIONS, ""))
    for entry in re.split(r"[,\s]+", value):
        if entry == "*":
            return None
        try:
            patterns += [_parse_exception(entry)] if entry else []
        except InvalidPattern as error:
            warnings.append(f"ignoring {shown(entry)} in {name}: {error}")
    return patterns


def _parse_exception(entry: str) -> DomainPattern:
    """One entry: a name means its subdomains as well, with or without a dot before it, as curl and Python read it."""
    entry = entry.removeprefix(".")
    pattern = parse_pattern(entry)
    return parse_pattern(f"**.{entry}") if pattern.kind is PatternKind.HOST else pattern
