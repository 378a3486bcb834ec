"""Checkpoints on disk or on a hub. Quantized formats come here, each mapped to a `QuantScheme`."""
