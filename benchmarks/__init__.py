"""fastmux against the standard library: ``python -m benchmarks --quick`` from the root of a checkout."""
