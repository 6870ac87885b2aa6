"""Layers of the engine that nobody started, and its question which one comes next."""

from __future__ import annotations

from typing import Any

from mitmproxy import options
from mitmproxy.proxy import context, layer

from .flow_kit import Bench

OPTIONS = options.Options()


def stacked(here: Bench, *layers: Any) -> layer.NextLayer:
    """The engine's question, when these layers stand already."""
    stack = context.Context(here.client, OPTIONS)
    asked = layer.NextLayer(stack)
    stack.layers.extend(layers)
    return asked


def bare(kind: type[Any], **attributes: object) -> Any:
    """A layer that nobody started."""
    made = object.__new__(kind)
    vars(made).update(attributes)
    return made
