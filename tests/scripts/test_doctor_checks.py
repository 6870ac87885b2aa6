"""What the doctor says of configuration, ports, certificate authority, secrets and environment."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from codex_network_proxy.addons.ca_files import load_or_create
from codex_network_proxy.policy.config import load_config
from codex_network_proxy.scripts.doctor_checks import authority, check_machine, environment, ports
from codex_network_proxy.scripts.doctor_findings import Finding, State

NETWORK = 'default_permissions = "p"\n[permissions.p.network]\nenabled = true\nallowed_domains = ["a.test"]\n'
HOOK = """
mitm = true
[[permissions.p.network.mitm_hooks]]
host = "a.test"
match = { methods = ["GET"], path_prefixes = ["/"] }
[[permissions.p.network.mitm_hooks.actions.inject_request_headers]]
name = "authorization"
secret_env_var = "TOKEN"
"""


def on(subject: str, home: Path, text: str, **environ: str) -> list[Finding]:
    """What is said about one subject, with this configuration."""
    (home / "config.toml").write_text(text)
    found = check_machine({"CODEX_HOME": str(home), "HOME": str(home), **environ}, None, None)
    return [finding for finding in found if finding.subject == subject]


@pytest.mark.parametrize(
    ("text", "states", "said"),
    [
        pytest.param(NETWORK, [State.OK], "is valid, mode full", id="valid"),
        pytest.param(NETWORK + 'mode = "ful"\n', [State.FAULT], '"ful" is not a mode', id="a mistake"),
        pytest.param(NETWORK + 'mode = "ful"\nx = 1\n', [State.FAULT] * 2, '"ful" is not a mode', id="two mistakes"),
        pytest.param(NETWORK.replace("true", "false"), [State.FAULT], "nothing listens", id="switched off"),
    ],
)
def test_the_configuration_is_checked(text: str, states: list[State], said: str, tmp_path: Path) -> None:
    found = on("configuration", tmp_path, text)
    assert [finding.state for finding in found if finding.state is not State.NOTE] == states
    assert any(said in finding.text for finding in found)


def test_nothing_else_is_said_of_a_broken_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("broken")
    found = list(check_machine({"CODEX_HOME": str(tmp_path)}, None, None))
    assert {finding.subject for finding in found} == {"configuration"}


def test_a_bad_home_is_a_finding(tmp_path: Path) -> None:
    (found,) = check_machine({"CODEX_HOME": str(tmp_path / "nowhere")}, None, None)
    assert (found.state, "that path does not exist" in found.text) == (State.FAULT, True)


def test_ports_are_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = f"127.0.0.1:{held.getsockname()[1]}"
        text = f'{NETWORK}proxy_url = "http://{taken}"\nsocks_url = "http://127.0.0.1:0"\n'
        settings = load_config(text, file="config.toml").settings
        http, socks = ports(settings, {})
        assert (http.state, http.text) == (State.FAULT, f"{taken} cannot be had: address already in use")
        assert http.fix == "end the program that has it, or write another port in `proxy_url`"
        assert (socks.state, socks.text) == (State.OK, "127.0.0.1:0 takes any that is free")
        ours, _ = ports(settings, {taken: 4711})
        assert (ours.state, ours.text) == (State.OK, f"{taken} is served by the proxy with process id 4711")
    free, _ = ports(settings, {})
    assert (free.state, free.text) == (State.OK, f"{taken} is free")


def test_without_socks_there_is_one_port(tmp_path: Path) -> None:
    assert len(on("port", tmp_path, f'{NETWORK}enable_socks5 = false\nproxy_url = "http://127.0.0.1:0"\n')) == 1


def test_an_authority_is_looked_at_and_never_made(tmp_path: Path) -> None:
    assert authority(tmp_path, needed=True).text == "no certificate authority yet; the proxy makes it when it starts"
    assert list(tmp_path.iterdir()) == []
    made = load_or_create(tmp_path)
    good = authority(tmp_path, needed=True)
    assert (good.state, str(made.path) in good.text) == (State.OK, True)


@pytest.mark.parametrize(("needed", "state"), [(True, State.FAULT), (False, State.NOTE)])
def test_a_key_that_others_can_read_is_a_fault_where_it_is_needed(needed: bool, state: State, tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / "proxy" / "ca.key").chmod(0o644)
    found = authority(tmp_path, needed=needed)
    assert (found.state, "group/world accessible" in (found.fix or "")) == (state, True)


def test_half_an_authority_stays_as_it_is(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / "proxy" / "ca.pem").unlink()
    found = authority(tmp_path, needed=True)
    assert (found.state, "both managed MITM CA files must exist" in (found.fix or "")) == (State.FAULT, True)
    assert not (tmp_path / "proxy" / "ca.pem").exists()


@pytest.mark.parametrize(
    ("text", "environ", "state", "said"),
    [
        pytest.param(NETWORK + HOOK, {"TOKEN": "s3cret"}, State.OK, "it can be read", id="there"),
        pytest.param(NETWORK + HOOK, {}, State.FAULT, "missing required environment variable TOKEN", id="missing"),
        pytest.param(
            NETWORK + HOOK.replace("= true", "= false"), {}, State.NOTE, "TOKEN", id="missing, and not needed yet"
        ),
    ],
)
def test_secrets_are_looked_for_and_never_shown(
    text: str, environ: dict[str, str], state: State, said: str, tmp_path: Path
) -> None:
    (found,) = on("secret", tmp_path, text, **environ)
    assert (found.state, said in found.text) == (state, True)
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, [(State.OK, "no proxy variables in this shell")], id="none"),
        pytest.param(
            {"http_proxy": "http://127.0.0.1:3128/"}, [(State.OK, "http_proxy lead to this proxy")], id="here"
        ),
        pytest.param({"ALL_PROXY": "socks5h://127.0.0.1:8081"}, [(State.OK, "ALL_PROXY lead to this")], id="SOCKS5"),
        pytest.param(
            {"HTTPS_PROXY": "http://user:s3cret@proxy.test:8080"},
            [(State.NOTE, "HTTPS_PROXY lead to another proxy, which the proxy uses on its way out")],
            id="elsewhere",
        ),
        pytest.param(
            {"http_proxy": "http://127.0.0.1:3128", "NO_PROXY": "*.corp.test"},
            [(State.OK, "http_proxy lead"), (State.NOTE, "NO_PROXY lead past the proxy: *.corp.test")],
            id="with exceptions",
        ),
        pytest.param({"NO_PROXY": "*", "HTTP_PROXY": " "}, [(State.OK, "no proxy variables")], id="nothing but blanks"),
    ],
)
def test_the_variables_of_the_shell_are_told(environ: dict[str, str], expected: list[tuple[State, str]]) -> None:
    found = list(environment(load_config(NETWORK, file="config.toml").settings, environ))
    assert [(finding.state, said in finding.text) for finding, (_, said) in zip(found, expected, strict=True)] == [
        (state, True) for state, _ in expected
    ]
    assert "s3cret" not in repr(found)
