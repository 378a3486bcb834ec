"""The engine: plans, wires everything once, and owns `step()`."""
