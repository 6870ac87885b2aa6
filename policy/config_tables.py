"""The shape of the network table: keys, types and defaults (spec B1.2, B1.3, B7.1).

Unknown keys and loose types are refused by pydantic, meaningless values by `config_values`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails

from .config_values import (
    DomainKey,
    SocketKey,
    Wrong,
    address_of,
    domain_key_of,
    environment_name_of,
    filled,
    header_name_of,
    hook_host_of,
    method_of,
    path_prefix_of,
    pattern_of,
    query_key_of,
    reserved,
    secret_file_of,
    secret_prefix_of,
    socket_key_of,
    socket_path_of,
    value_pattern_of,
)
from .hosts import Host
from .listeners import DEFAULT_HTTP_PORT, DEFAULT_SOCKS_PORT, ParsedAddress
from .modes import NetworkMode
from .patterns import DomainPattern
from .settings import DEFAULT_HTTP_LISTEN, DEFAULT_SOCKS_LISTEN

Loose = Field(strict=False)
"""For lists, which strict pydantic does not take for tuples, and for enums; what is inside stays strict."""

HttpAddress = Annotated[ParsedAddress, PlainValidator(partial(address_of, default_port=DEFAULT_HTTP_PORT))]
SocksAddress = Annotated[ParsedAddress, PlainValidator(partial(address_of, default_port=DEFAULT_SOCKS_PORT))]
Patterns = tuple[Annotated[DomainPattern, PlainValidator(pattern_of)], ...]
SocketPaths = Annotated[tuple[Annotated[str, AfterValidator(socket_path_of)], ...], Loose]
DomainMap = dict[Annotated[DomainKey, PlainValidator(domain_key_of)], Literal["allow", "deny"]]
# "none" is how older files said "deny".
SocketMap = dict[Annotated[SocketKey, PlainValidator(socket_key_of)], Literal["allow", "deny", "none"]]

Values = Annotated[tuple[Annotated[str, AfterValidator(value_pattern_of)], ...], Loose]
QueryValues = Annotated[Values, AfterValidator(partial(filled, what="query key must list at least one allowed value"))]
HeaderName = Annotated[str, AfterValidator(header_name_of)]


Methods = Annotated[
    tuple[Annotated[str, AfterValidator(method_of)], ...],
    Loose,
    AfterValidator(partial(filled, what="methods must not be empty")),
]
PathPrefixes = Annotated[
    tuple[Annotated[str, AfterValidator(path_prefix_of)], ...],
    Loose,
    AfterValidator(partial(filled, what="path_prefixes must not be empty")),
]
ActionNames = Annotated[tuple[str, ...], Loose, AfterValidator(partial(filled, what="action must not be empty"))]
HookHost = Annotated[Host, PlainValidator(hook_host_of)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class MatchTable(Table):
    methods: Methods = Field(default=(), validate_default=True)
    path_prefixes: PathPrefixes = Field(default=(), validate_default=True)
    query: dict[Annotated[str, AfterValidator(query_key_of)], QueryValues] = {}
    headers: dict[HeaderName, Values] = {}
    body: Annotated[None, PlainValidator(reserved)] = None


class InjectTable(Table):
    name: HeaderName = Field(default="", validate_default=True)
    secret_env_var: Annotated[str, AfterValidator(environment_name_of)] | None = None
    secret_file: Annotated[str, AfterValidator(secret_file_of)] | None = None
    prefix: Annotated[str, AfterValidator(secret_prefix_of)] = ""

    @model_validator(mode="wrap")
    @classmethod
    def one_source(cls, value: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Also told when something else is wrong: whoever repairs the one must not run into the other."""
        sources = [value.get(name) for name in ("secret_env_var", "secret_file")] if isinstance(value, dict) else [1]
        if sum(source is not None for source in sources) == 1:
            return handler(value)
        found: list[InitErrorDetails] = []
        try:
            handler(value)
        except ValidationError as error:
            found = [_again(each) for each in error.errors()]
        wrong = Wrong("expected exactly one of secret_env_var or secret_file; write one of them")
        found.append({"type": "value_error", "loc": (), "input": value, "ctx": {"error": wrong}})
        raise ValidationError.from_exception_data(cls.__name__, found)


def _again(error: ErrorDetails) -> InitErrorDetails:
    return {"type": error["type"], "loc": error["loc"], "input": error["input"], "ctx": error.get("ctx", {})}


class ActionsTable(Table):
    strip_request_headers: Annotated[tuple[HeaderName, ...], Loose] = ()
    inject_request_headers: Annotated[tuple[InjectTable, ...], Loose] = ()


class HookTable(Table):
    """One element of the list form, `[[…network.mitm_hooks]]`."""

    host: HookHost
    match: MatchTable
    actions: ActionsTable = ActionsTable()

    @model_validator(mode="before")
    @classmethod
    def missing_is_empty(cls, value: object) -> object:
        return {"host": "", "match": {}} | value if isinstance(value, dict) else value


class NamedActionsTable(ActionsTable):
    """One `[…network.mitm.actions.<name>]`."""

    @model_validator(mode="after")
    def does_something(self) -> Self:
        if not (self.strip_request_headers or self.inject_request_headers):
            raise Wrong("must define at least one operation; write strip_request_headers or inject_request_headers")
        return self


class NamedHookTable(MatchTable):
    """One `[…network.mitm.hooks.<name>]`: criteria at the top, actions by name."""

    host: HookHost
    action: ActionNames = Field(default=(), validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def missing_is_empty(cls, value: object) -> object:
        return {"host": ""} | value if isinstance(value, dict) else value


class MitmTable(Table):
    """The table form of `mitm`."""

    hooks: dict[str, NamedHookTable] = {}
    actions: dict[str, NamedActionsTable] = {}


def _mitm(value: object) -> bool | MitmTable:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return MitmTable.model_validate(value)
    raise Wrong("must be true, false or a table with hooks and actions; write true or false")


class NetworkTable(Table):
    enabled: bool = False
    proxy_url: HttpAddress = ParsedAddress(DEFAULT_HTTP_LISTEN)
    enable_socks5: bool = True
    socks_url: SocksAddress = ParsedAddress(DEFAULT_SOCKS_LISTEN)
    enable_socks5_udp: bool = True
    allow_upstream_proxy: bool = True
    dangerously_allow_non_loopback_proxy: bool = False
    dangerously_allow_all_unix_sockets: bool = False
    mode: Annotated[NetworkMode, Loose] = NetworkMode.FULL
    allowed_domains: Annotated[Patterns, Loose] = ()
    denied_domains: Annotated[Patterns, Loose] = ()
    domains: DomainMap = {}
    allow_unix_sockets: SocketPaths = ()
    unix_sockets: SocketMap = {}
    allow_local_binding: bool = False
    mitm: Annotated[bool | MitmTable, PlainValidator(_mitm)] = False
    mitm_hooks: Annotated[tuple[HookTable, ...], Loose] = ()
