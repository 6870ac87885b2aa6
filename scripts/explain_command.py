"""`codex-proxy explain`: why a request is allowed or blocked, and the smallest change that would turn that around."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator

from codex_network_proxy.addons.config_file import find_config, read_with_origins
from codex_network_proxy.addons.own_listeners import OwnListeners
from codex_network_proxy.addons.resolver import PinnedResolver, SystemResolver, parse_pins
from codex_network_proxy.policy.decision import Blocked, NetworkPolicyRequest, NetworkProtocol, Unresolved
from codex_network_proxy.policy.engine import World
from codex_network_proxy.policy.errors import ConfigError, InvalidHost
from codex_network_proxy.policy.explain import Explanation, explain
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.responses import error_code
from codex_network_proxy.policy.settings import NetworkSettings, Place
from codex_network_proxy.policy.upstream import read_routes

from .config_commands import report

ALLOWED, UNUSABLE, WRONG_USAGE, BLOCKED = 0, 1, 2, 3


def explain_command(options: argparse.Namespace) -> int:
    """0 when the request passes, 3 when it is blocked, 1 when neither can be said, 2 for what is no request."""
    try:
        asked = _questions(options)
        explanation = asyncio.run(_explain(options, asked))
    except ConfigError as error:
        return report(error)
    except ValueError as error:
        print(f"codex-proxy explain: {options.target}: {error}", file=sys.stderr)
        return WRONG_USAGE
    if options.json:
        print(json.dumps(explanation.fields(), indent=2))
    else:
        for line in _lines(explanation):
            print(line)
    if isinstance(explanation.verdict, Unresolved):
        return UNUSABLE
    return ALLOWED if explanation.allowed else BLOCKED


def _questions(options: argparse.Namespace) -> tuple[NetworkPolicyRequest, ...]:
    protocol = NetworkProtocol(options.protocol) if options.protocol else None
    headers = [_header(text) for text in options.header]
    return questions(options.target, method=options.method, headers=headers, protocol=protocol)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise InvalidHost(f"--header {text!r} has no name; write NAME:VALUE")
    return name.strip(), value.strip()


async def _explain(options: argparse.Namespace, asked: tuple[NetworkPolicyRequest, ...]) -> Explanation:
    loaded, origins = read_with_origins(find_config(os.environ, options.config, options.profile))
    system = SystemResolver()
    try:
        resolver = PinnedResolver(parse_pins(options.resolve), system)
        routes, _ = read_routes(os.environ)
        world = World(resolver, lambda: "", _own_listeners(loaded.settings), routes=routes)
        return await explain(asked, loaded.settings, world, origins)
    finally:
        system.close()


def _own_listeners(settings: NetworkSettings) -> OwnListeners:
    """The ports at which a proxy with this configuration listens."""
    own = OwnListeners()
    for bind in (settings.http_bind, settings.socks_bind):
        if bind.address.port:
            own.add(bind.address.port)
    return own


def _lines(explanation: Explanation) -> Iterator[str]:
    verdict, request, remedy = explanation.verdict, explanation.request, explanation.remedy
    how = request.protocol.value if request.method is None else f"{request.protocol.value}, {request.method}"
    yield f"{request.target} ({how}): {'allowed' if not isinstance(verdict, Blocked) else 'blocked'}"
    yield f"  {explanation.message}"
    if isinstance(verdict, Blocked):
        yield f"  reason   {verdict.reason}, {error_code(verdict) or 'no x-proxy-error'}"
    for ground in explanation.grounds:
        if ground.ruling.rule is not None:
            yield f"  rule     {ground.ruling.rule}: {ground.ruling.decision}{_at(ground.place)}"
    note = "" if explanation.looked_up else "; the proxy does not look up what it refuses"
    for found in explanation.addresses:
        yield f"  address  {found.address}, {found.kind.replace('_', '-')}{note}"
    towards = "to block" if explanation.allowed else "to allow"
    for change in remedy.changes:
        yield f"  {towards} {change}"
    if remedy.obstacle:
        yield f"  but      {remedy.obstacle}" if remedy.changes else f"  {towards} nothing helps: {remedy.obstacle}"


def _at(place: Place | None) -> str:
    return "" if place is None or place.line is None else f" ({place.file}:{place.line})"
