"""For people who write plugins: a new package, what a plugin offers, and what is wrong with it."""
