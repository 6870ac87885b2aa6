"""Patterns that are legal and wider than most people who write them mean (spec A1.4). The lint shows these texts."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

# Domains under which strangers get names. The common ones, not the public suffix list: they only feed a warning.
_REGISTRIES = """
ac.uk co.uk gov.uk org.uk com.au net.au org.au co.nz co.za co.in co.id co.il co.jp ne.jp or.jp co.kr co.th
com.ar com.br com.cn com.co com.hk com.mx com.my com.ph com.pl com.sg com.tr com.tw com.ua com.vn
"""
_HOSTERS = """
a.run.app amazonaws.com appspot.com azureedge.net azurewebsites.net blob.core.windows.net blogspot.com cloudapp.net
cloudfront.net deno.dev firebaseapp.com fly.dev github.io gitlab.io glitch.me herokuapp.com hf.space loca.lt
myshopify.com netlify.app ngrok-free.app ngrok.app ngrok.io onrender.com pages.dev r2.dev railway.app readthedocs.io
repl.co replit.app replit.dev run.app s3.amazonaws.com surge.sh translate.goog trycloudflare.com vercel.app web.app
wordpress.com workers.dev
"""
_SHARED_SUFFIXES = frozenset((_REGISTRIES + _HOSTERS).split())

_NARROWEST_BROAD = {4: 7, 6: 6}
_COMMON_PORTS = frozenset({"22", "80", "443", "3000", "5000", "5432", "8000", "8080", "8443"})


def suffix_warning(name: str) -> str | None:
    """About `*.name` and `**.name`."""
    if "." not in name:
        return f"covers every name under the top-level domain `{name}`; write the domains you mean, `*.example.{name}`"
    if name in _SHARED_SUFFIXES:
        return f"covers the names of strangers under `{name}`; write the names you mean, `example.{name}`"
    return None


def labels_warning(name: str) -> str | None:
    """About a name with a `*` inside a label: is that label one that anyone can register?"""
    label, _, right = name[name.rfind(".", 0, name.rfind("*")) + 1 :].partition(".")
    if suffix_warning(right) is None:
        return None
    stranger = f"{label.replace('*', 'evil')}.{right}"
    return f"covers names that anyone can register, `{stranger}`; write each name, or a `*` further left"


def network_warning(network: IPv4Network | IPv6Network) -> str | None:
    """About a CIDR range."""
    if network.prefixlen > _NARROWEST_BROAD[network.version]:
        return None
    return f"covers 2^{network.max_prefixlen - network.prefixlen} addresses; write the ranges you mean"


def address_warning(name: str) -> str | None:
    """About an IPv6 address without brackets that looks like one with a port."""
    address, _, port = name.rpartition(":")
    if "::" not in address or port not in _COMMON_PORTS:
        return None
    return f"is one IPv6 address, and its last group looks like a port; for a port write `[{address}]:{port}`"
