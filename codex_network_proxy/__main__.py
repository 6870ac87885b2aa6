"""`python -m codex_network_proxy` is `codex-proxy`."""

import sys

from codex_network_proxy.scripts.cli import main

if __name__ == "__main__":
    sys.exit(main())
