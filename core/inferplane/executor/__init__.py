"""Launches batches on one or many ranks. `Executor.launch(batch)` gives a `Pending`."""
