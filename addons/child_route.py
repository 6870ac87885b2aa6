"""How programs find the proxy that runs: its addresses as bound, and what they must trust (spec B9.4)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_network_proxy.policy.child_env import ChildRoute

if TYPE_CHECKING:
    from .runtime import Runtime


def live_route(runtime: Runtime) -> ChildRoute:
    """The route to a proxy whose listeners are open."""
    interception = runtime.tls.interception
    bundle = str(interception.child_bundle) if interception else None
    return ChildRoute.of(runtime.settings, runtime.http_address or "", runtime.socks_address, bundle)


def with_java(route: ChildRoute, environ: Mapping[str, str] = os.environ) -> ChildRoute:
    """The route with what Java needs, where it is there. May write a trust store."""
    if not (shutil.which("java", path=environ.get("PATH")) or environ.get("JAVA_HOME")):
        return route
    # Loading cryptography takes longer than all the rest.
    from .java_trust import write_java_roots

    bundle = Path(route.ca_bundle) if route.ca_bundle else None
    # A proxy that has never run has made none.
    roots = write_java_roots(bundle) if bundle and bundle.exists() else None
    return replace(route, java=True, java_roots=str(roots) if roots else None)
