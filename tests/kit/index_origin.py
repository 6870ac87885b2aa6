"""A package index with one wheel, made on the spot."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

from .origins import Exchange, not_found

NAME = "kit_demo-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: kit-demo\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel() -> bytes:
    """The smallest wheel that pip takes."""
    files = {
        "kit_demo.py": "ANSWER = 42\n",
        "kit_demo-1.0.dist-info/METADATA": METADATA,
        "kit_demo-1.0.dist-info/WHEEL": WHEEL,
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in files.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in (files | {"kit_demo-1.0.dist-info/RECORD": record}).items():
            archive.writestr(zipfile.ZipInfo(name), text)  # Without the time of day: the same bytes each time.
    return buffer.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def package_index(exchange: Exchange) -> None:
    """Answers `/simple/kit-demo/` with the link, and the link with the wheel."""
    wheel = make_wheel()
    if exchange.path == "/simple/kit-demo/":
        page = f'<a href="/simple/files/{NAME}#sha256={hashlib.sha256(wheel).hexdigest()}">{NAME}</a>'
        return exchange.answer(page.encode(), "content-type: text/html")
    if exchange.path == f"/simple/files/{NAME}":
        return exchange.answer(wheel, "content-type: application/octet-stream")
    return not_found(exchange)
