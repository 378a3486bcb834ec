"""The example platform for Inferplane."""
