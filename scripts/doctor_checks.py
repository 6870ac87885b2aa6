"""What the doctor looks at beside programs: configuration, ports, certificate authority, secrets, environment."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from codex_network_proxy.addons.ca_files import load_or_create
from codex_network_proxy.addons.config_file import BUILT_IN, ConfigSource, find_config, read
from codex_network_proxy.addons.control_socket import socket_paths
from codex_network_proxy.addons.private_files import FileRefused
from codex_network_proxy.addons.secret_sources import EnvironmentSecrets, verify_all
from codex_network_proxy.policy.child_env import PROXY_VARIABLES
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.listeners import Bind
from codex_network_proxy.policy.settings import NetworkSettings

from .control_commands import NoAnswer, ask
from .doctor_findings import Finding, State

OK, NOTE, FAULT = State.OK, State.NOTE, State.FAULT


def check_machine(environ: Mapping[str, str], file: Path | None, profile: str | None) -> Iterator[Finding]:
    """Everything but the programs. Writes nothing."""
    try:
        source = find_config(environ, file, profile)
        loaded = read(source)
        policy = NetworkPolicy.compile(loaded.settings)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("configuration", FAULT, str(problem), "mend the file; `codex-proxy check` reads it alone")
        return
    yield from configuration(source, loaded.settings, [str(warning) for warning in loaded.warnings])
    yield from ports(loaded.settings, running(source.home))
    yield authority(source.home, needed=policy.mitm)
    yield from secrets(policy, environ)
    yield from environment(loaded.settings, environ)


def configuration(source: ConfigSource, settings: NetworkSettings, warnings: list[str]) -> Iterator[Finding]:
    name = str(source.path) if source.required or source.path.exists() else BUILT_IN
    if settings.enabled:
        yield Finding("configuration", OK, f"{name} is valid, mode {settings.mode}")
    else:
        yield Finding("configuration", FAULT, f"{name}: nothing listens", "set `enabled = true`")
    for warning in warnings:
        yield Finding("configuration", NOTE, warning)


def running(home: Path) -> dict[str, int]:
    """Addresses that proxies of this user listen on, with their process ids."""
    found: dict[str, int] = {}
    for pid, path in socket_paths(home):
        try:
            status = ask(path, "status")
        except NoAnswer:
            continue
        found |= {str(status[name]): pid for name in ("http", "socks") if status.get(name)}
    return found


def ports(settings: NetworkSettings, taken: Mapping[str, int]) -> Iterator[Finding]:
    binds = {"proxy_url": settings.http_bind}
    if settings.enable_socks5:
        binds["socks_url"] = settings.socks_bind
    for key, bind in binds.items():
        address = str(bind.address)
        if not bind.address.port:
            yield Finding("port", OK, f"{address} takes any that is free")
        elif pid := taken.get(address):
            yield Finding("port", OK, f"{address} is served by the proxy with process id {pid}")
        elif trouble := _cannot_bind(bind):
            fix = f"end the program that has it, or write another port in `{key}`"
            yield Finding("port", FAULT, f"{address} cannot be had: {trouble}", fix)
        else:
            yield Finding("port", OK, f"{address} is free")


def _cannot_bind(bind: Bind) -> str | None:
    address = bind.address
    with socket.socket(socket.AF_INET6 if address.host.version == 6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address.host), address.port))
            probe.listen(1)
        except OSError as error:
            return (error.strerror or type(error).__name__).lower()
    return None


def authority(home: Path, *, needed: bool) -> Finding:
    """The files of the certificate authority, if they are there; none are made."""
    files = [home / "proxy" / name for name in ("ca.pem", "ca.key")]
    if not any(file.exists() for file in files):
        when = "the proxy makes it when it starts" if needed else "it is made once `mitm = true`"
        return Finding("authority", OK, f"no certificate authority yet; {when}")
    try:
        made = load_or_create(home)
    except FileRefused as error:
        return Finding("authority", FAULT if needed else NOTE, "the proxy would not start with it", str(error))
    return Finding("authority", OK, f"{made.path}, until {made.certificate.not_valid_after_utc:%Y-%m-%d}")


def secrets(policy: NetworkPolicy, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether each secret of a hook can be read here. Says where it comes from, never what it is."""
    problems = verify_all(policy.hooks, EnvironmentSecrets(environ))
    for problem in problems:
        yield Finding("secret", FAULT if policy.mitm else NOTE, str(problem), "set it where the proxy is started")
    wanted = sum(len(hook.edits.inject) for hook in policy.hooks.hooks)
    if wanted and not problems:
        yield Finding("secret", OK, f"all {wanted} can be read" if wanted > 1 else "it can be read")


def environment(settings: NetworkSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which way the variables of this shell lead. Their values may hold logins and are not shown."""
    ours = {str(settings.http_bind.address), str(settings.socks_bind.address)}
    spellings = [each for name in PROXY_VARIABLES for each in (name, name.lower()) if environ.get(each, "").strip()]
    here = [name for name in spellings if environ[name].rpartition("//")[2].rstrip("/") in ours]
    elsewhere = [name for name in spellings if name not in here]
    if here:
        yield Finding("environment", OK, f"{', '.join(here)} lead to this proxy")
        yield from _exceptions(environ)
    if elsewhere:
        use = "which the proxy uses on its way out" if settings.allow_upstream_proxy else "which the proxy ignores"
        yield Finding("environment", NOTE, f"{', '.join(elsewhere)} lead to another proxy, {use}")
    if not spellings:
        yield Finding("environment", OK, "no proxy variables in this shell; what you start here goes past the proxy")


def _exceptions(environ: Mapping[str, str]) -> Iterator[Finding]:
    found = [name for name in ("NO_PROXY", "no_proxy") if environ.get(name, "").strip()]
    if found:
        text = f"{' and '.join(found)} lead past the proxy: {', '.join(environ[name] for name in found)}"
        yield Finding("environment", NOTE, text, f"unset {' '.join(found)}")
