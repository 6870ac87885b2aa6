"""`scripts/bench`: how fast the proxy is beside others, as ratios. Not installed; the product does not need it."""
