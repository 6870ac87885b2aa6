"""The check of every single value in the network table: text in, meaning out, or `Wrong` (spec B1.2, B7.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InvalidHost, InvalidPattern, shown
from .hook_values import compile_values
from .hosts import Host, parse_host
from .listeners import ParsedAddress, read_listen_address
from .patterns import DomainPattern, parse_pattern
from .unix_paths import normalize_socket_path

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method or header name (RFC 9110 section 5.6.2)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")

_FILE_NAME = re.compile(r"(?:~|\.{1,2})/.{0,60}|[A-Za-z0-9_-]{1,24}\.[a-z]{1,5}")
"""What is certainly a relative path. Anything else in `secret_file` may be the secret itself."""


class Wrong(ValueError):
    """A value that has the right type and no meaning. The text says what to write instead and echoes no secret."""


def text_of(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong("must be a string; write it in quotes")
    return value


def pattern_of(value: object) -> DomainPattern:
    text = text_of(value)
    if "@" in text:
        # Before anything quotes a part of it: what stands before the @ may be a password.
        raise Wrong("has user-info; write the host alone, such as `api.example.com`")
    try:
        return parse_pattern(text)
    except InvalidPattern as error:
        raise Wrong(str(error)) from None


def address_of(value: object, default_port: int) -> ParsedAddress:
    try:
        return read_listen_address(text_of(value), default_port)
    except InvalidHost:
        raise Wrong(f'missing host in network proxy address; write "http://127.0.0.1:{default_port}"') from None


def socket_path_of(text: str) -> str:
    if not text.startswith("/"):
        raise Wrong(f"expected an absolute path, got {shown(text)}; write the whole path from / on")
    if _CONTROL.search(text):
        raise Wrong("a socket path has no control characters; write the path as ls shows it")
    return normalize_socket_path(text)


@dataclass(frozen=True, slots=True)
class DomainKey:
    """A key of the `domains` map. The spelling is kept, so that two spellings of one pattern both count."""

    spelling: str
    pattern: DomainPattern


@dataclass(frozen=True, slots=True)
class SocketKey:
    spelling: str
    path: str


def domain_key_of(value: object) -> DomainKey:
    return DomainKey(text_of(value), pattern_of(value))


def socket_key_of(value: object) -> SocketKey:
    return SocketKey(text_of(value), socket_path_of(text_of(value)))


def hook_host_of(value: object) -> Host:
    text = text_of(value)
    if not text.strip():
        raise Wrong("host must not be empty; write the one host this hook is for")
    if "*" in text:
        raise Wrong("MITM hook hosts must be exact hosts and cannot contain wildcards; write one hook per host")
    if "/" in text:
        raise Wrong("host has a scheme or a path; write the host alone")
    try:
        return parse_host(text)
    except InvalidHost as error:
        raise Wrong(f"{error}; write the host alone, without a port") from None


def method_of(text: str) -> str:
    method = text.strip().upper()
    if not method:
        raise Wrong('methods must not contain empty entries; write a method like "POST", or remove the entry')
    if not _TOKEN.fullmatch(method):
        raise Wrong(f'invalid method {shown(text)}; write a method like "POST"')
    return method


def path_prefix_of(text: str) -> str:
    if not text.removeprefix("literal:"):
        raise Wrong('path_prefixes must not contain empty entries; write "/" for every path')
    return value_pattern_of(text)


def value_pattern_of(text: str) -> str:
    try:
        compile_values([text])
    except InvalidPattern:
        # The error quotes the value, which may be a secret.
        raise Wrong("invalid glob pattern; write `*` and `**` only, or `literal:` for plain text") from None
    return text


def header_name_of(text: str) -> str:
    """The name as written: two spellings in one table are two constraints."""
    if not _TOKEN.fullmatch(text):
        raise Wrong(f"invalid header name {shown(text)}; write letters, digits and dashes")
    return text


def query_key_of(text: str) -> str:
    if not text:
        raise Wrong("query keys must not be empty; write the name of a parameter")
    return text


def environment_name_of(text: str) -> str:
    if not text.strip():
        raise Wrong("secret_env_var must not be empty; write the name of an environment variable")
    if re.search(r"[=$\x00]", text):
        raise Wrong("is not the name of an environment variable; write the name alone, without $ and =")
    return text


def secret_file_of(text: str) -> str:
    if not text.strip():
        raise Wrong("secret_file must not be empty; write the absolute path of a file")
    if not text.startswith("/"):
        echo = f": {shown(text)}" if _FILE_NAME.fullmatch(text) else ""
        raise Wrong(f"secret_file must be an absolute path{echo}; write the whole path from / on")
    if _CONTROL.search(text):
        raise Wrong("secret_file has no control characters; write the path as ls shows it")
    return text


def secret_prefix_of(text: str) -> str:
    if not _HEADER_VALUE.fullmatch(text):
        raise Wrong('invalid value for an injected header; write printable ASCII like "Bearer "')
    return text


def reserved(_value: object) -> None:
    raise Wrong("match.body is reserved for a future release and is not yet supported; remove it")


def filled(values: tuple[str, ...], what: str) -> tuple[str, ...]:
    if not values:
        raise Wrong(f"{what}; write at least one")
    return values
