"""Batches of integers to tensors, forward, sample."""
