"""The environment that sends a child program through the proxy (spec B9.4, B6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .modes import NetworkMode
from .settings import NetworkSettings

HTTP_VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
    "WS_PROXY", "WSS_PROXY", "ws_proxy", "wss_proxy",
    "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY",
    "npm_config_http_proxy", "npm_config_https_proxy", "npm_config_proxy",
    "NPM_CONFIG_HTTP_PROXY", "NPM_CONFIG_HTTPS_PROXY", "NPM_CONFIG_PROXY",
    "BUNDLE_HTTP_PROXY", "BUNDLE_HTTPS_PROXY", "PIP_PROXY", "DOCKER_HTTP_PROXY", "DOCKER_HTTPS_PROXY",
)  # fmt: skip
"""For them the proxy is an HTTP proxy, also on the way to `https:` and `wss:`.

npm itself knows no `http-proxy` and warns of it; what packages run when they are installed reads it.
"""

ANY_VARIABLES = ("ALL_PROXY", "all_proxy", "FTP_PROXY", "ftp_proxy")
"""For every other protocol: SOCKS5 where it is on, with names resolved by the proxy."""

BYPASS_VARIABLES = (
    "NO_PROXY", "no_proxy", "npm_config_noproxy", "NPM_CONFIG_NOPROXY", "YARN_NO_PROXY", "BUNDLE_NO_PROXY",
)  # fmt: skip

CA_VARIABLES = (
    "CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "PIP_CERT", "BUNDLE_SSL_CA_CERT", "npm_config_cafile", "NPM_CONFIG_CAFILE",
    "AWS_CA_BUNDLE", "DENO_CERT",
)  # fmt: skip
"""All of them, since one that the program inherited would mask the others."""

PROXY_VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "WS_PROXY", "WSS_PROXY", "ALL_PROXY", "FTP_PROXY", "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY", "NPM_CONFIG_HTTP_PROXY", "NPM_CONFIG_HTTPS_PROXY", "NPM_CONFIG_PROXY", "BUNDLE_HTTP_PROXY",
    "BUNDLE_HTTPS_PROXY", "PIP_PROXY", "DOCKER_HTTP_PROXY", "DOCKER_HTTPS_PROXY",
)  # fmt: skip
"""Any of these says that a program is sent through a proxy, in capitals or not."""

LOCAL_BYPASS = "localhost,127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
"""What need not come through the proxy while it lets everything local pass anyway."""

OWN_LOOPBACK = "localhost,127.0.0.1,::1"
"""What need not come through the proxy in a network of the child's own: there, loopback is the child alone."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, never bound

SSH_MARKER = "CODEX_PROXY_GIT_SSH_COMMAND=1 "
"""How a `GIT_SSH_COMMAND` of ours begins: `git@host:` remotes over SOCKS, with the `nc` of BSD and macOS.

One of somebody else's is kept.
"""


JAVA_PASSWORD = "changeit"
"""The one that Java ships with: a store of certificates that everybody may see needs one for its format alone."""


@dataclass(frozen=True, slots=True)
class ChildRoute:
    """Where a child program finds the proxy. Addresses are `ip:port`, `[ip]:port` for IPv6.

    `ca_bundle` is the file with all roots and the proxy's own, while HTTPS is intercepted. `secrets` names variables
    whose values hooks inject: the child must not have them. `java` is there when the child may run Java, and
    `java_roots` the trust store for it. With `own_network` nothing of this machine's network is in reach of the child.
    """

    http: str
    socks: str | None = None
    ca_bundle: str | None = None
    allow_local_binding: bool = False
    secrets: tuple[str, ...] = ()
    java: bool = False
    java_roots: str | None = None
    own_network: bool = False

    @classmethod
    def of(cls, settings: NetworkSettings, http: str, socks: str | None, ca_bundle: str | None) -> ChildRoute:
        """The route to a proxy with these settings. In limited mode SOCKS lets nothing pass: HTTP is better then."""
        named = (injected.env for hook in settings.hooks for injected in hook.inject if injected.env)
        if settings.mode is NetworkMode.LIMITED:
            socks = None
        return cls(http, socks, ca_bundle, settings.allow_local_binding, tuple(dict.fromkeys(named)))


def child_env(base: Mapping[str, str], route: ChildRoute) -> dict[str, str]:
    """`base` with everything that leads common programs through the proxy, and without the secrets of hooks.

    A program may ignore all of it: the environment helps, it does not enforce.
    """
    env = {name: value for name, value in base.items() if name not in route.secrets}
    url, socks = f"http://{_reachable(route.http)}", route.socks and _reachable(route.socks)
    if env.get("GIT_SSH_COMMAND", "").startswith(SSH_MARKER):
        del env["GIT_SSH_COMMAND"]
    if socks and not env.get("GIT_SSH_COMMAND"):
        env["GIT_SSH_COMMAND"] = f"{SSH_MARKER}ssh -o ProxyCommand='nc -X 5 -x {socks} %h %p'"
    env |= dict.fromkeys(HTTP_VARIABLES, url)
    env |= dict.fromkeys(ANY_VARIABLES, f"socks5h://{socks}" if socks else url)
    env |= dict.fromkeys(BYPASS_VARIABLES, _bypass(route))
    if route.java:
        env["JAVA_TOOL_OPTIONS"] = " ".join([*_others(env.get("JAVA_TOOL_OPTIONS", "")), *_java_options(route)])
    if route.ca_bundle:
        env |= dict.fromkeys(CA_VARIABLES, route.ca_bundle)
    return env | {
        "ELECTRON_GET_USE_PROXY": "true",
        "NODE_USE_ENV_PROXY": "1",
        "CODEX_NETWORK_PROXY_ACTIVE": "1",
        "CODEX_NETWORK_ALLOW_LOCAL_BINDING": "1" if route.allow_local_binding else "0",
    }


def _reachable(address: str) -> str:
    """A listener on every address of the machine is reached on loopback."""
    host, _, port = address.rpartition(":")
    return f"{_LOOPBACK.get(host, host)}:{port}"


def _bypass(route: ChildRoute) -> str:
    """What is local is judged by the proxy, too, unless it would pass anyway or is not this machine's."""
    if route.own_network:
        return OWN_LOOPBACK
    return LOCAL_BYPASS if route.allow_local_binding else ""


_JAVA_PROPERTIES = (
    "-Dhttp.nonProxyHosts=", "-Dhttp.proxyHost=", "-Dhttp.proxyPort=", "-Dhttps.proxyHost=", "-Dhttps.proxyPort=",
    "-Djavax.net.ssl.trustStore",
)  # fmt: skip


def _others(options: str) -> list[str]:
    """The user's own options: those of another start are not said again. A quoted text is left as it is."""
    if '"' in options or "'" in options:
        return [options.strip()]
    return [word for word in options.split() if not word.startswith(_JAVA_PROPERTIES)]


def _java_options(route: ChildRoute) -> list[str]:
    """The last word counts where Java is told twice. It has no variables for this, and bypasses loopback by itself."""
    host, _, port = _reachable(route.http).rpartition(":")
    bypass = "localhost|127.0.0.1|[::1]" if _bypass(route) else ""
    options = [f"-Dhttp.nonProxyHosts={bypass}"]
    for scheme in ("http", "https"):
        options += [f"-D{scheme}.proxyHost={host.strip('[]')}", f"-D{scheme}.proxyPort={port}"]
    if route.java_roots:
        options += [f"-Djavax.net.ssl.trustStore={_quoted(route.java_roots)}", "-Djavax.net.ssl.trustStoreType=PKCS12",
                    f"-Djavax.net.ssl.trustStorePassword={JAVA_PASSWORD}"]  # fmt: skip
    return options


def _quoted(path: str) -> str:
    return f'"{path}"' if any(char.isspace() for char in path) else path


def has_proxy_url_env_vars(environ: Mapping[str, str]) -> bool:
    """Whether the environment sends a program through a proxy already."""
    return any(environ.get(each, "").strip() for name in PROXY_VARIABLES for each in (name, name.lower()))
