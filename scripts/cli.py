"""The command line `codex-proxy`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from codex_network_proxy import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="codex-proxy", description="One door to the network, one policy.")
    parser.add_argument("--version", action="version", version=f"codex-proxy {__version__}")
    parser.parse_args(arguments)
    return 0
