"""A registry of npm packages, made on the spot: one with a plain name, one in a scope that needs the other."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from functools import cache

from .origins import Exchange, not_found

PACKAGES: dict[str, dict[str, str]] = {"kit-demo": {}, "@kit/scoped": {"kit-demo": "1.0.0"}}
ANSWER = "exports.answer = 42;\n"


@cache
def make_package(name: str) -> bytes:
    """The smallest package that npm takes; the same bytes each time."""
    manifest = {"name": name, "version": "1.0.0", "main": "index.js", "dependencies": PACKAGES[name]}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file, text in {"package.json": json.dumps(manifest), "index.js": ANSWER}.items():
            entry = tarfile.TarInfo(f"package/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


def npm_registry(exchange: Exchange) -> None:
    """Answers `/npm/kit-demo` and `/npm/@kit%2fscoped` with what there is, and `/npm/files/...` with a package."""
    exchange.body()
    path = exchange.path.removeprefix("/npm/")
    for name in PACKAGES:
        if path.replace("%2f", "/").replace("%2F", "/") == name:
            return exchange.answer(json.dumps(_described(exchange, name)).encode(), "content-type: application/json")
        if path == f"files/{_file(name)}":
            return exchange.answer(make_package(name), "content-type: application/octet-stream")
    return not_found(exchange)


def _file(name: str) -> str:
    return f"{name.replace('@', '').replace('/', '-')}-1.0.0.tgz"


def _described(exchange: Exchange, name: str) -> dict[str, object]:
    package = make_package(name)
    scheme = "https" if exchange.origin.tls else "http"
    dist = {
        "tarball": f"{scheme}://{exchange.head.get('host')}/npm/files/{_file(name)}",
        "shasum": hashlib.sha1(package).hexdigest(),
        "integrity": f"sha512-{base64.b64encode(hashlib.sha512(package).digest()).decode()}",
    }
    version = {"name": name, "version": "1.0.0", "dependencies": PACKAGES[name], "dist": dist}
    return {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
