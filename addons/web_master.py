"""mitmweb with the policy in it, for `codex-proxy serve --web`."""

from __future__ import annotations

from collections.abc import Sequence

from mitmproxy import options
from mitmproxy.tools.web.master import WebMaster

from .master import insert_chain


class CodexWebMaster(WebMaster):
    """mitmweb on a loopback port, without opening a browser; the policy's addons stand where scripts would."""

    def __init__(self, opts: options.Options, chain: Sequence[object], port: int) -> None:
        super().__init__(opts, with_termlog=False)
        opts.update(web_host="127.0.0.1", web_port=port, web_open_browser=False)
        insert_chain(self, chain)
