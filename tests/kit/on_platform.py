"""The command of this checkout, told that it runs on another platform: `on_platform.py darwin serve ...`.

Nothing that a user can reach does this: what a platform does not have must not be opened by an option.
"""

from __future__ import annotations

import functools
import runpy
import sys
from pathlib import Path

LAUNCH = Path(__file__).resolve().parents[2] / "scripts" / "launch.py"

if __name__ == "__main__":
    platform, *arguments = sys.argv[1:]
    runpy.run_path(str(LAUNCH))
    from codex_network_proxy.addons.runtime import Runtime
    from codex_network_proxy.scripts import cli, serve

    setattr(serve, "Runtime", functools.partial(Runtime, platform=platform))  # noqa: B010 - mypy sees no such name
    sys.exit(cli.main(arguments))
