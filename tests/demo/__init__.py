"""The story of the product, told on the embedded stack: `python -m demo`."""
