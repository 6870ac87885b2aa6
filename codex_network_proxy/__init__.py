"""codex-network-proxy: one door to the network, one policy."""
