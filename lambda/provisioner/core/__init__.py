"""The decisions: values in, values out; no clock, network, randomness or logging."""
