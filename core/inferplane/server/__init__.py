"""The OpenAI-compatible HTTP server. Knows requests and text; no tensors, no torch."""
