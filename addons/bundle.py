"""The chain of addons, and why it has this order."""

from __future__ import annotations

from collections.abc import Callable

from .allowlist import Allowlist
from .approval import Approval
from .client_trust import ClientTrust
from .control import Control
from .doors import Doors
from .headers import Headers
from .limited_mode import LimitedMode
from .mitm_hooks import MitmHooks
from .runtime import Runtime
from .settings import Settings
from .shared_setup import SharedSetup
from .streaming import Streaming
from .tls_certificates import TlsCertificates
from .tls_routing import TlsRouting
from .unix_sockets import UnixSockets
from .web_entries import WebEntries


def build(runtime: Runtime | None = None) -> list[object]:
    """The addons of an engine that serves one proxy, which lives in `runtime` or is configured by the options.

    Settings come first because the others ask them. The doors open when all others run.
    """
    settings, entries = Settings(runtime), WebEntries()
    return [settings, *_rules(), entries, Doors(settings, entries), Control(settings)]


def build_shared(ready: Callable[[], None]) -> list[object]:
    """The same for an engine without listeners: every connection is handed over by the proxy whose client it is."""
    return [SharedSetup(ready), *_rules()]


def _rules() -> list[object]:
    """The rules in the order in which they look at a request.

    Hop-by-hop headers go before the decision, which sees what the origin will see; everything else that edits the
    request comes after it. The approval is last, so that a rule that refuses leaves nothing approved.
    """
    return [
        TlsRouting(),
        TlsCertificates(),
        ClientTrust(),
        UnixSockets(),
        Headers(),
        Allowlist(),
        LimitedMode(),
        MitmHooks(),
        Streaming(),
        Approval(),
    ]
