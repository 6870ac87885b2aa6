"""Writes docs/api.md: everything that can be imported from `codex_network_proxy`, from its own docstrings."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import codex_network_proxy

TESTING = "codex_network_proxy.testing"
HEAD = """# The library's API

Written by `scripts/docs` from the docstrings; changes made here are lost. The [README](../README.md#library) shows how
it is used. Everything below is imported from `codex_network_proxy`, or from the module that its heading names. Times
are in seconds.
"""

FIRST = [
    "NetworkProxy",
    "NetworkProxyBuilder",
    "NetworkProxyHandle",
    "ProxyScope",
    "NetworkProxyState",
    "NetworkPolicyRequest",
    "NetworkDecision",
]
"""What a reader looks for; the rest follows by name."""

Member = tuple[str, object]
_MEMBERS = (FunctionType, property, staticmethod, classmethod)


def document() -> str:
    """The whole page."""
    others = [name for name in codex_network_proxy.__all__ if name not in FIRST]
    parts = [HEAD, *_module(codex_network_proxy, [*FIRST, *others])]
    testing = import_module(TESTING)
    parts += [f"# `{TESTING}`", text_of(testing), *_module(testing, testing.__all__)]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _module(module: ModuleType, names: list[str]) -> Iterator[str]:
    for name in names:
        value = getattr(module, name)
        yield f"## {name}"
        if isinstance(value, type):
            yield from _class(value)
        else:
            yield text_of(value)


def _class(kind: type) -> Iterator[str]:
    yield text_of(kind)
    if issubclass(kind, enum.Enum):
        yield "\n".join(f"- `{kind.__name__}.{member.name}` = `{member.value!r}`" for member in kind)
    elif dataclasses.is_dataclass(kind):
        yield "\n".join(f"- `{_field(field)}`" for field in dataclasses.fields(kind) if not field.name.startswith("_"))
    elif issubclass(kind, tuple):
        yield "\n".join(f"- `{_parameter(each)}`" for each in _named_fields(kind))
    for name, member in public_members(kind):
        yield f"### `{_signature(kind, name, member)}`"
        yield text_of(member)


def public_members(kind: type) -> list[Member]:
    """Methods and properties that a class adds itself and that are meant for others, in the order of the source."""
    if issubclass(kind, enum.Enum):
        return []
    members = ((name, member) for name, member in vars(kind).items() if isinstance(member, _MEMBERS))
    return [(name, member) for name, member in members if not name.startswith("_") or name in _called(kind)]


def _called(kind: type) -> set[str]:
    """What is called by its place in the language, where it has something to say."""
    init = not dataclasses.is_dataclass(kind) and "__init__" in vars(kind) and kind.__name__ == "NetworkProxyState"
    return {"__call__", *(["__init__"] if init else [])}


def text_of(value: object) -> str:
    """Its own docstring, without references to documents that are not part of the repository."""
    own = vars(value).get("__doc__") if isinstance(value, type) else inspect.getdoc(value)
    return re.sub(r" \(spec [^)]*\)", "", inspect.cleandoc(own or ""))


def _signature(kind: type, name: str, member: object) -> str:
    if isinstance(member, property):
        assert member.fget
        return f"{kind.__name__}.{name} -> {member.fget.__annotations__['return']}"
    function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    assert isinstance(function, FunctionType)
    signature = inspect.signature(function)
    shown = [_parameter(each) for each in signature.parameters.values() if each.name not in ("self", "cls")]
    keywords = [each.name for each in signature.parameters.values() if each.kind is each.KEYWORD_ONLY]
    if keywords:
        at = next(index for index, text in enumerate(shown) if text.startswith(keywords[0]))
        shown.insert(at, "*")
    call = kind.__name__ if name == "__init__" else f"{kind.__name__}.{name}"
    answer = "" if name == "__init__" else f" -> {signature.return_annotation}"
    return f"{'async ' if inspect.iscoroutinefunction(function) else ''}{call}({', '.join(shown)}){answer}"


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def _named_fields(kind: type[tuple[object, ...]]) -> Iterator[inspect.Parameter]:
    """The fields of a named tuple, which keeps its annotations as references."""
    for name, parameter in inspect.signature(kind).parameters.items():
        annotation = kind.__annotations__[name]
        yield parameter.replace(annotation=getattr(annotation, "__forward_arg__", annotation))


def _field(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"{field.name}: {field.type} = {_default(field.default)}"
    return f"{field.name}: {field.type}"


def _default(value: object) -> str:
    if value is os.environ:
        return "os.environ"
    plain = value is None or isinstance(value, bool | int | float | str) or value == ()
    return repr(value) if plain and not isinstance(value, enum.Enum) else "…"


if __name__ == "__main__":
    page = Path(__file__).resolve().parents[1] / "docs" / "api.md"
    page.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"wrote {page}\n")
