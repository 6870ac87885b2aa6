"""Makes `codex_network_proxy` importable from the folder above this one; run as a program, it starts the command line.

The same rule serves a checkout, where `addons/` and its neighbours lie beside the package folder, and an installed
wheel, where they lie inside it. Neither folder goes on `sys.path`: there, `socks/` would take the place of PySocks.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from os.path import dirname, isfile, join, realpath

PACKAGE = "codex_network_proxy"


def bind(folder: str) -> None:
    """Raises `ImportError` when the process already uses another copy: a mix of two versions enforces neither."""
    installed = join(folder, "__init__.py")
    init = installed if isfile(installed) else join(folder, PACKAGE, "__init__.py")
    if loaded := sys.modules.get(PACKAGE):
        if realpath(loaded.__file__ or "") != init:
            raise ImportError(f"{PACKAGE} is already loaded from {loaded.__file__}, so {init} cannot be used with it")
        return
    places = list(dict.fromkeys((dirname(init), folder)))
    spec = spec_from_file_location(PACKAGE, init, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{init} cannot be loaded")
    sys.modules[PACKAGE] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[PACKAGE]
        raise


bind(dirname(dirname(realpath(__file__))))

if __name__ == "__main__":
    from codex_network_proxy.scripts.cli import main

    sys.exit(main())
