"""One running proxy: what its start needs, and what a changed file does to it."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from codex_network_proxy.addons.audit_export import ExportUnavailable
from codex_network_proxy.addons.auditing import NOBODY, Watchers
from codex_network_proxy.addons.handover import HandOver
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.constraints import Constraints
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Unavailable,
)
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.overlays import ManagedPolicy, NetworkRequirements, NetworkRule
from tests.kit.raw import Client

HEAD = """
default_permissions = "test"
[permissions.test.network]
enabled = true
proxy_url = "http://127.0.0.1:0"
socks_url = "http://127.0.0.1:0"
allow_local_binding = true
"""
HOOK = """
mitm = true
[[permissions.test.network.mitm_hooks]]
host = "api.test"
match = { methods = ["GET"], path_prefixes = ["/x/"] }
actions = { inject_request_headers = [{ name = "authorization", secret_env_var = "TOKEN" }] }
"""


class Place:
    """A CODEX_HOME whose configuration the test rewrites."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.toml"
        self._opened: list[Runtime] = []

    def write(self, allowed: str, more: str = "") -> None:
        self.config.write_text(f"{HEAD}allowed_domains = [{allowed}]\n{more}")

    def open(
        self,
        options: RunOptions | None = None,
        environ: Mapping[str, str] | None = None,
        managed: ManagedPolicy | None = None,
        watchers: Watchers = NOBODY,
    ) -> Runtime:
        options = options or RunOptions(pins=("a.test=127.0.0.1", "b.test=127.0.0.1"))
        runtime = Runtime(options, self.environ(environ), managed=managed, watchers=watchers)
        self._opened.append(runtime)
        return runtime

    def environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return {"CODEX_HOME": str(self.home), "HOME": str(self.home), **(more or {})}

    def close(self) -> None:
        for runtime in self._opened:
            runtime.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.close()


def ask(runtime: Runtime, host: str) -> object:
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, parse_endpoint(host, 443), method="CONNECT")
    return asyncio.run(runtime.authority.decide(request))


def test_the_configured_policy_decides_and_is_audited_below_codex_home(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    assert isinstance(ask(runtime, "a.test"), Allowed)
    assert isinstance(ask(runtime, "b.test"), Blocked)
    runtime.close()
    lines = (place.home / "log" / "network-proxy.jsonl").read_text().splitlines()
    assert ["allow" in line and "a.test" in line for line in lines] == [True, False]


@pytest.mark.parametrize(
    ("required", "answer", "told"),
    [
        pytest.param(True, Unavailable, "every request is refused", id="and it is required, nothing is decided"),
        pytest.param(False, Allowed, "decisions go on", id="and it is not, decisions go on"),
    ],
)
def test_when_the_audit_log_cannot_be_written(
    required: bool, answer: type[object], told: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    folder = place.home / "audit.jsonl"
    folder.mkdir()
    options = RunOptions(audit_log=folder, pins=("a.test=127.0.0.1",), fail_closed_audit=required)
    runtime = place.open(options)
    assert isinstance(ask(runtime, "a.test"), answer)
    runtime.close()
    assert f"{folder} cannot be written: Is a directory; {told}, 0 events lost so far" in caplog.text


def test_a_required_audit_log_is_open_when_the_first_request_comes(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open(RunOptions(pins=("a.test=127.0.0.1",), fail_closed_audit=True))
    assert isinstance(ask(runtime, "a.test"), Allowed)


def test_an_application_is_told_of_every_decision_and_adds_what_it_knows(place: Place) -> None:
    place.write('"a.test"')
    events: list[PolicyDecisionEvent] = []
    blocks: list[BlockedRequest] = []

    async def blocked(entry: BlockedRequest) -> None:
        blocks.append(entry)

    watchers = Watchers(events.append, blocked, {"conversation.id": "c-1", "model": None})
    runtime = place.open(watchers=watchers)
    assert isinstance(ask(runtime, "b.test"), Blocked)
    runtime.close()
    assert [event.fields()["conversation.id"] for event in events] == ["c-1"]
    assert [entry.host for entry in blocks] == [entry.host for entry in runtime.authority.blocked.snapshot()]
    (line,) = (place.home / "log" / "network-proxy.jsonl").read_text().splitlines()
    assert json.loads(line) == events[0].fields()


def test_an_application_may_not_set_just_anything(place: Place) -> None:
    place.write('"a.test"')
    with pytest.raises(ValueError, match=r"audit metadata 'request\.id': use one of conversation\.id"):
        place.open(watchers=Watchers(metadata={"request.id": "mine"}))


def test_an_applications_pipeline_takes_the_place_of_the_environments_collector(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_network_proxy.addons.audit_sinks.CLOSE_LIMIT", 20.0)  # it is imported only now
    place.write('"a.test"')
    memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # its own
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "no address at all"}
    runtime = place.open(environ=environ, watchers=Watchers(logger_provider=provider))
    ask(runtime, "a.test")
    runtime.close()
    (record,) = memory.get_finished_logs()
    assert (record.log_record.attributes or {})["server.address"] == "a.test"


@pytest.mark.parametrize("required", [False, True])
def test_an_export_that_cannot_be_had_is_fatal_only_where_the_audit_is_required(
    required: bool, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    options = RunOptions(pins=("a.test=127.0.0.1",), fail_closed_audit=required)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}
    if required:
        with pytest.raises(ExportUnavailable, match="OTEL_EXPORTER_OTLP_ENDPOINT is not an address"):
            place.open(options, environ)
        return
    assert isinstance(ask(place.open(options, environ), "a.test"), Allowed)
    assert "audit export is off: OTEL_EXPORTER_OTLP_ENDPOINT is not an address; write http://HOST:PORT" in caplog.text


def test_an_unchanged_file_is_not_read_again(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    assert runtime.reload_if_changed() is False


def test_a_changed_file_is_in_force_at_once_and_its_entries_are_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    runtime = place.open()
    place.write('"b.test"', 'denied_domains = ["evil.test"]')
    with caplog.at_level(logging.INFO):
        assert runtime.reload_if_changed() is True
    assert isinstance(ask(runtime, "a.test"), Blocked)
    assert isinstance(ask(runtime, "b.test"), Allowed)
    logged = [record.getMessage() for record in caplog.records]
    assert "config entry added to allowlist: b.test" in logged
    assert "config entry removed from allowlist: a.test" in logged
    assert "config entry added to denylist: evil.test" in logged


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("this is not TOML", id="is no TOML"),
        pytest.param(HEAD + 'allowed_domains = ["*"]', id="has a global wildcard"),
        pytest.param(HEAD + 'allowed_domains = ["a.test"]\ndenied_domain = []', id="has an unknown key"),
        pytest.param(HEAD + 'allowed_domains = "a.test"', id="has a wrong type"),
        pytest.param(HEAD + HOOK, id="needs a secret that is not there"),
        pytest.param(None, id="is gone"),
    ],
)
def test_everything_is_refused_while_the_file(
    broken: str | None, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    runtime = place.open()
    if broken is None:
        place.config.unlink()
    else:
        place.config.write_text(broken)
    assert runtime.reload_if_changed() is True
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert "every request is refused until it is repaired" in caplog.text
    place.write('"a.test"')
    assert runtime.reload_if_changed() is True
    assert isinstance(ask(runtime, "a.test"), Allowed)


def test_what_code_changed_lasts_until_the_file_is_read_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write('"a.test"')
    runtime = place.open()
    runtime.live.add_allowed_domain("b.test")
    assert isinstance(ask(runtime, "b.test"), Allowed)
    place.write('"a.test"', "# touched")
    with caplog.at_level(logging.INFO):
        runtime.reload_if_changed()
    assert isinstance(ask(runtime, "b.test"), Blocked)
    assert "config entry removed from allowlist: b.test" in caplog.messages


MANAGED = ManagedPolicy(
    requirements=NetworkRequirements(denied_domains=("evil.test",)),
    rules=(NetworkRule("b.test", "allow"),),
    constraints=Constraints(allowed_domains=("*.test",)),
)


def test_what_is_managed_is_laid_over_each_version_of_the_file(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open(managed=MANAGED)
    for allowed in (("a.test", "b.test"), ("b.test",)):
        assert runtime.live.current_patterns == (allowed, ("evil.test",))
        place.write("")
        runtime.reload_if_changed()


def test_a_file_beyond_the_constraints_stops_the_start(place: Place) -> None:
    place.write('"a.com"')
    with pytest.raises(ConfigError, match=r'network proxy constraints: .*\["a.com"\] \(allowed subset of managed'):
        place.open(managed=MANAGED)


def test_a_file_that_goes_beyond_the_constraints_is_a_broken_one(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.write('"a.test"')
    runtime = place.open(managed=MANAGED)
    place.write('"a.test", "a.com"')
    runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert 'network proxy constraints: invalid value for network.allowed_domains: ["a.com"]' in caplog.text
    place.write('"a.test"')
    runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Allowed)


FILE_HOOK = HOOK.replace('secret_env_var = "TOKEN"', 'secret_file = "{}"')


def test_a_file_that_waits_for_its_secret_is_in_force_as_soon_as_that_can_be_read(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    secret = place.home / "token.txt"
    secret.write_text("canary")
    secret.chmod(0o644)
    place.write('"a.test"')
    runtime = place.open()
    place.write('"a.test"', FILE_HOOK.replace("{}", str(secret)))
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert f"run: chmod 600 {secret}" in caplog.text
    caplog.clear()
    assert not runtime.reload_if_changed()
    assert caplog.messages == [], "what is known to be broken is logged once"
    secret.chmod(0o600)
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Allowed)
    assert not runtime.reload_if_changed()


def test_a_file_that_waits_for_the_key_of_the_authority_is_in_force_as_soon_as_that_is_closed(place: Place) -> None:
    environ = {"TOKEN": "canary"}
    place.write('"a.test"', HOOK)
    place.open(environ=environ)
    place.write('"a.test"')
    runtime = place.open(environ=environ)
    key = place.home / "proxy" / "ca.key"
    key.chmod(0o644)
    place.write('"a.test"', HOOK)
    runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    key.chmod(0o600)
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Allowed)


def test_a_file_that_is_repaired_otherwise_waits_for_nothing(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    place.write('"a.test"', FILE_HOOK.replace("{}", str(place.home / "nothing.txt")))
    runtime.reload_if_changed()
    place.config.write_text("= [")
    runtime.reload_if_changed()
    (place.home / "nothing.txt").write_text("canary")
    (place.home / "nothing.txt").chmod(0o600)
    assert not runtime.reload_if_changed()
    assert isinstance(ask(runtime, "a.test"), Unavailable)


def test_an_error_that_nobody_expected_closes_everything_as_well(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "secret text")

    place.write('"a.test"')
    runtime = place.open()
    monkeypatch.setattr(Runtime, "_prepare_tls", fail)
    place.write('"a.test", "b.test"')
    runtime.reload()
    assert isinstance(ask(runtime, "a.test"), Unavailable)
    assert "reload failed (OSError)" in caplog.messages
    assert "secret text" not in caplog.text
    assert not runtime.reload_if_changed()
    monkeypatch.undo()
    assert runtime.reload_if_changed()
    assert isinstance(ask(runtime, "b.test"), Allowed)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_decider_without_time_to_answer_stops_the_start(timeout: float, place: Place) -> None:
    async def decide(request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.allow()

    place.write('"a.test"')
    with pytest.raises(ValueError, match="write a number of seconds greater than 0"):
        Runtime(RunOptions(), place.environ({}), decide, timeout)


def test_a_changed_listener_address_waits_for_a_restart(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write('"a.test"')
    runtime = place.open()
    place.config.write_text(place.config.read_text().replace("127.0.0.1:0", "127.0.0.1:9"))
    runtime.reload_if_changed()
    assert "they take effect after a restart" in caplog.text


class NoEngine:
    """Nothing is handed over here."""

    def take(self, handover: HandOver) -> None:
        raise AssertionError(handover)


def opened(runtime: Runtime) -> list[str]:
    """The lines about the listeners of a door that was opened, and what is bound while it is."""

    async def body() -> list[str]:
        runtime.open_door(NoEngine())
        return runtime.listeners()

    return asyncio.run(body())


def test_both_listeners_open_and_none_of_them_is_dialled(place: Place) -> None:
    place.write('"127.0.0.1"')
    runtime = place.open()
    http, socks = opened(runtime)
    assert http == f"HTTP proxy listening on {runtime.http_address}"
    assert socks == f"SOCKS5 proxy listening on {runtime.socks_address}"
    for address in (runtime.http_address, runtime.socks_address):
        assert address is not None
        request = NetworkPolicyRequest(NetworkProtocol.SOCKS5_TCP, parse_endpoint(address))
        verdict = asyncio.run(runtime.authority.decide(request))
        assert isinstance(verdict, Blocked)
        assert verdict.reason == "not_allowed_local"


def test_where_https_is_intercepted_it_is_told_what_to_trust(place: Place) -> None:
    place.write('"127.0.0.1"', "mitm = true\nenable_socks5 = false\n")
    runtime = place.open()
    _, trust = opened(runtime)
    assert runtime.tls.interception is not None
    assert trust == f"HTTPS is intercepted where needed; clients must trust {runtime.tls.interception.child_bundle}"


def test_without_socks5_there_is_one_listener(place: Place) -> None:
    place.write('"a.test"', "enable_socks5 = false")
    runtime = place.open()
    assert opened(runtime) == [f"HTTP proxy listening on {runtime.http_address}"]
    assert runtime.socks_address is None


def test_when_one_listener_cannot_be_had_the_other_is_closed(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place.write('"a.test"')
        text = place.config.read_text()
        place.config.write_text(text.replace('socks_url = "http://127.0.0.1:0"', f'socks_url = "127.0.0.1:{port}"'))
        runtime = place.open()
        with pytest.raises(OSError, match=f"127.0.0.1:{port} is in use by another program"):
            opened(runtime)
    assert runtime.door is None
    assert runtime.http_address is not None
    with pytest.raises(ConnectionRefusedError):
        Client(runtime.http_address)


def test_one_address_cannot_be_both(place: Place) -> None:
    place.write('"a.test"')
    place.config.write_text(place.config.read_text().replace("127.0.0.1:0", "127.0.0.1:9"))
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9 is both proxy_url and socks_url; write two ports"):
        opened(place.open())


def test_limited_mode_warns_that_socks5_is_blocked_at_start_and_at_a_change(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    warning = 'SOCKS5 is blocked in limited mode; set mode="full" to allow SOCKS5'
    place.write('"a.test"', 'mode = "limited"')
    runtime = place.open()
    opened(runtime)
    assert caplog.text.count(warning) == 1
    for more, count in (("", 1), ('mode = "limited"', 2), ('mode = "limited"\ndenied_domains = ["b.test"]', 2)):
        place.write('"a.test"', more)
        runtime.reload()
        assert caplog.text.count(warning) == count, more


def test_limited_mode_without_socks5_says_nothing_of_it(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write('"a.test"', 'mode = "limited"\nenable_socks5 = false')
    opened(place.open())
    assert "SOCKS5" not in caplog.text


def test_interception_makes_the_authority_and_reads_no_secret_into_the_policy(place: Place) -> None:
    place.write('"api.test"', HOOK)
    runtime = place.open(environ={"TOKEN": "canary"})
    assert runtime.tls.interception is not None
    assert runtime.tls.interception.ca == place.home / "proxy" / "ca.pem"
    assert "canary" not in repr(runtime.authority.policy)


def test_without_interception_no_authority_is_made(place: Place) -> None:
    place.write('"a.test"')
    runtime = place.open()
    assert runtime.tls.interception is None
    assert not (place.home / "proxy" / "ca.key").exists()


def test_a_missing_secret_stops_the_start(place: Place) -> None:
    place.write('"api.test"', HOOK)
    with pytest.raises(ConfigError, match="missing required environment variable TOKEN"):
        place.open()


def test_a_key_that_others_can_read_stops_the_start(place: Place) -> None:
    place.write('"api.test"', HOOK)
    place.open(environ={"TOKEN": "canary"})
    (place.home / "proxy" / "ca.key").chmod(0o644)
    with pytest.raises(ConfigError, match="must not be group/world accessible"):
        place.open(environ={"TOKEN": "canary"})


def test_interception_can_be_switched_on_by_a_reload(place: Place) -> None:
    place.write('"api.test"')
    runtime = place.open(environ={"TOKEN": "canary"})
    place.write('"api.test"', HOOK)
    runtime.reload_if_changed()
    assert runtime.tls.interception is not None


def test_a_malformed_pin_stops_the_start(place: Place) -> None:
    place.write('"a.test"')
    with pytest.raises(ValueError, match=r"a\.test"):
        place.open(RunOptions(pins=("a.test",)))
