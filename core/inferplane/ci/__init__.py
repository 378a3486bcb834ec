"""The CI registry: tests say where and when they run, and `inferplane-ci` plans and runs them.

A tool of its own. Nothing else in the core imports it, and it imports no torch. Plugin repositories
use it for their tests with a `[tool.inferplane-ci]` table in their `pyproject.toml`.
"""
