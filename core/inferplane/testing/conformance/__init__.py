"""The conformance kit: is every kernel that a platform offers right, and what is not known?

`session.Session` lists cases and runs them; `suites` knows one op a file. No torch is imported
before a kernel is run.
"""
