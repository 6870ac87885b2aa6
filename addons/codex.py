"""The add-on as mitmproxy loads it: `mitmdump -s addons/codex.py`, `mitmweb -s addons/codex.py`.

Works from a bare checkout and from an installed package, from any folder and through symbolic links. What is built, and
in which order, stands in bundle.py. mitmproxy takes a name here that equals one of its events for a hook, so there are
few of them.
"""

import sys

# mitmproxy puts the script's folder first on the path and leaves it there; a file in it could hide anybody's module.
if sys.path and sys.path[0] == __file__.rpartition("/")[0]:
    del sys.path[0]

from os.path import dirname, join, realpath
from runpy import run_path

run_path(join(dirname(dirname(realpath(__file__))), "scripts", "launch.py"))

from codex_network_proxy.addons.bundle import build

addons = build()
