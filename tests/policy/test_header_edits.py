"""Secrets are read when a request is sent, set once, and shown nowhere (spec A4.9, B7.4)."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

import pytest

from codex_network_proxy.policy.errors import SecretUnavailable
from codex_network_proxy.policy.header_edits import (
    FRAMING_HEADERS,
    HeaderEdits,
    Injection,
    ResolvedEdits,
    SecretRef,
    apply,
    compile_edits,
    resolve_edits,
)

CANARY = "canary-5up3r-s3cr3t"
TOKEN = SecretRef(env="TOKEN")

Fields = list[tuple[bytes, bytes]]


@dataclass
class FakeSecrets:
    values: dict[str, str] = field(default_factory=lambda: {"TOKEN": CANARY})
    error: Exception | None = None

    def environment(self, name: str) -> str:
        if self.error:
            raise self.error
        return self.values[name]

    def file(self, path: str) -> str:
        return self.environment(path)


def resolve(*inject: Injection, strip: tuple[str, ...] = (), **secrets: str) -> ResolvedEdits:
    return resolve_edits(compile_edits(strip, inject), FakeSecrets({"TOKEN": CANARY, **secrets}))


def test_an_injected_header_is_prefix_and_secret() -> None:
    resolved = resolve(Injection("authorization", TOKEN, "Bearer "))

    assert apply([(b"Accept", b"*/*")], resolved) == [
        (b"Accept", b"*/*"),
        (b"authorization", b"Bearer " + CANARY.encode()),
    ]


def test_a_secret_may_come_from_a_file() -> None:
    resolved = resolve_edits(
        HeaderEdits(inject=(Injection("x-api-key", SecretRef(file="/run/key")),)), FakeSecrets({"/run/key": "k"})
    )

    assert resolved.inject == ((b"x-api-key", b"k"),)


@pytest.mark.parametrize(
    "ref",
    [pytest.param(SecretRef(), id="no source"), pytest.param(SecretRef("A", "/b"), id="two sources")],
)
def test_a_secret_has_exactly_one_source(ref: SecretRef) -> None:
    with pytest.raises(SecretUnavailable, match="expected exactly one of secret_env_var or secret_file"):
        resolve(Injection("x-api-key", ref))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(b"Authorization", b"Basic mine")], id="the client's own header (J01)"),
        pytest.param([(b"authorization", b"a"), (b"AUTHORIZATION", b"b")], id="two spellings (J01)"),
        pytest.param([(b"authorization ", b"a")], id="a name with a space behind (J01)"),
        pytest.param([(b"\tAuthorization", b"a")], id="a name with a tab in front"),
        pytest.param([], id="no header"),
    ],
)
def test_injecting_replaces_every_spelling(fields: Fields) -> None:
    assert apply(fields, resolve(Injection("Authorization", TOKEN))) == [(b"authorization", CANARY.encode())]


def test_an_underscore_is_another_name() -> None:
    fields = [(b"x_api_key", b"mine")]

    assert apply(fields, resolve(Injection("x-api-key", TOKEN)))[:1] == fields


def test_stripping_removes_every_occurrence_and_keeps_the_rest_in_order() -> None:
    fields = [
        (b"Cookie", b"a"),
        (b"Accept", b"1"),
        (b"Proxy-Authorization", b"b"),
        (b"cookie", b"c"),
        (b"Accept", b"2"),
        (b"X-Api-Key", b"d"),
    ]

    assert apply(fields, resolve(strip=("COOKIE", "proxy-authorization", "x-api-key"))) == [
        (b"Accept", b"1"),
        (b"Accept", b"2"),
    ]


def test_stripping_comes_before_injecting() -> None:
    resolved = resolve(Injection("authorization", TOKEN), strip=("authorization",))

    assert apply([(b"Authorization", b"mine")], resolved) == [(b"authorization", CANARY.encode())]


def test_injections_keep_their_order_and_the_last_of_one_name_wins() -> None:
    resolved = resolve(
        Injection("X-One", SecretRef("A")), Injection("x-two", SecretRef("B")), Injection("x-one", SecretRef("C")),
        A="1", B="2", C="3",
    )  # fmt: skip

    assert apply([], resolved) == [(b"x-one", b"3"), (b"x-two", b"2")]


def test_no_edits_change_nothing() -> None:
    fields = [(b"A", b"1"), (b"a", b"2")]

    assert apply(fields, resolve()) == fields


@pytest.mark.parametrize("name", sorted(FRAMING_HEADERS))
def test_headers_of_the_framing_are_left_alone(name: str) -> None:
    assert compile_edits((name.title(),), (Injection(name.upper(), TOKEN),)) == HeaderEdits()


@pytest.mark.parametrize(
    ("prefix", "secret", "value"),
    [
        pytest.param("Bearer ", "", b"Bearer", id="an empty secret leaves the prefix"),
        pytest.param("", "", b"", id="nothing"),
        pytest.param("", " a b ", b"a b", id="spaces around a value are not part of it"),
        pytest.param("token=", "~!", b"token=~!", id="every visible character"),
    ],
)
def test_a_value_is_what_a_header_can_hold(prefix: str, secret: str, value: bytes) -> None:
    assert resolve(Injection("x-key", TOKEN, prefix), TOKEN=secret).inject == ((b"x-key", value),)


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(f"{CANARY}\r\nX-Evil: 1", id="a line end"),
        pytest.param(f"{CANARY}\n", id="a line end at the end"),
        pytest.param(f"{CANARY}\r", id="a carriage return"),
        pytest.param(f"{CANARY}\0", id="a NUL"),
        pytest.param(f"{CANARY}\t", id="a tab"),
        pytest.param(f"{CANARY}\x7f", id="a delete"),
        pytest.param(f"{CANARY}\xe9", id="a character that is not ASCII"),
        pytest.param(f"{CANARY}\udcff", id="a byte of the environment that is not UTF-8"),
    ],
)
def test_a_secret_that_is_no_header_value_is_refused_unseen(secret: str) -> None:
    with pytest.raises(SecretUnavailable, match=r"\Ainvalid value for injected header x-key\Z") as caught:
        resolve(Injection("x-key", TOKEN), TOKEN=secret)

    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["", "x key", "x-key:", "x\nkey", "caf\xe9", ":path"])
def test_a_name_that_is_no_header_name_is_refused(name: str) -> None:
    with pytest.raises(SecretUnavailable, match="invalid value for injected header"):
        resolve(Injection(name, TOKEN))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(SecretUnavailable("missing required environment variable TOKEN"), "missing", id="a refusal"),
        pytest.param(RuntimeError(CANARY), "failed to read the secret for injected header x-key", id="anything else"),
    ],
)
def test_a_source_that_fails_is_a_refusal_that_quotes_nothing(error: Exception, message: str) -> None:
    with pytest.raises(SecretUnavailable, match=message) as caught:
        resolve_edits(HeaderEdits(inject=(Injection("x-key", TOKEN),)), FakeSecrets(error=error))

    assert caught.value.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_no_repr_shows_a_secret() -> None:
    injection = Injection("authorization", TOKEN, "Bearer " + CANARY)
    edits = compile_edits(("cookie",), (injection,))
    resolved = resolve(injection, strip=("cookie",))

    assert CANARY not in repr((edits, resolved))
    assert f"{resolved}" == "ResolvedEdits(remove=(authorization, cookie), inject=(authorization))"
