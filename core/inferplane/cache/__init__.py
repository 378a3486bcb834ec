"""KV cache bookkeeping: pages, the prefix tree, eviction. Integers only, no device tensors."""
