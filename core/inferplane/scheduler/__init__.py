"""Which requests run next. Integers only: no tensors, no text."""
