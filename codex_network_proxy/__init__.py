"""codex-network-proxy: one door to the network, one policy."""

__version__ = "0.1.0"
