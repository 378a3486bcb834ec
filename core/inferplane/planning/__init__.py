"""The whole plan of an engine, out of settings and data: no torch, no weights, no device."""
