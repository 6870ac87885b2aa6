"""Whatever a file holds, it loads or is refused with problems; nothing else comes out (spec A1.2)."""

from __future__ import annotations

import contextlib
import json
import math

from hypothesis import example, given
from hypothesis import strategies as st

from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.config_tables import (
    ActionsTable,
    HookTable,
    InjectTable,
    MatchTable,
    MitmTable,
    NamedHookTable,
    NetworkTable,
)
from codex_network_proxy.policy.errors import ConfigError

TABLES = (NetworkTable, MitmTable, HookTable, NamedHookTable, MatchTable, ActionsTable, InjectTable)
WORDS = ["[key]", "", "a.com", "*.a.com", "*", "/a", "GET", "pattern:/*", "pattern:[", "::1", "10.0.0.0/8", "limited"]

keys = st.sampled_from(sorted({name for table in TABLES for name in table.model_fields} | set(WORDS)))
texts = st.sampled_from(WORDS) | st.text("ab.*:/@[]%\u00e9\u202e\U0001f600 -", max_size=8)
scalars = st.booleans() | st.integers() | st.sampled_from([1.5, math.inf, -math.inf]) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value).lower()


@given(st.dictionaries(keys, values, max_size=4))
@example({"mitm": {"hooks": {"[key]": {"query": {"[key]": [""], "": []}}}}})
def test_a_network_table_loads_or_is_refused(table: dict[str, object]) -> None:
    with contextlib.suppress(ConfigError):
        load_config(f'default_permissions = "w"\npermissions.w.network = {toml(table)}', file="config.toml")


@given(values, values, values)
def test_profiles_load_or_are_refused(selected: object, first: object, second: object) -> None:
    text = f"default_permissions = {toml(selected)}\npermissions = {{ 'a.com' = {toml(first)}, '*' = {toml(second)} }}"
    with contextlib.suppress(ConfigError):
        load_config(text, file="config.toml")


@given(st.text())
def test_any_text_loads_or_is_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        load_config(text, file="config.toml")
