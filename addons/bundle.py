"""The chain of addons, and why it has this order."""

from __future__ import annotations

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
from .streaming import Streaming
from .tls_certificates import TlsCertificates
from .tls_routing import TlsRouting
from .unix_sockets import UnixSockets
from .web_entries import WebEntries


def build(runtime: Runtime | None = None) -> list[object]:
    """The addons in the order in which they look at a request.

    Settings come first because the others ask them. Hop-by-hop headers go before the decision, which sees what the
    origin will see; everything else that edits the request comes after it. The approval is last, so that a rule that
    refuses leaves nothing approved. The doors open when all others run.
    """
    settings, entries = Settings(runtime), WebEntries()
    return [
        settings,
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
        entries,
        Doors(settings, entries),
        Control(settings),
    ]
