"""The CPU's own kernels in C++, compiled for this machine when they are first wanted.

`build` compiles and keeps the library, `library` declares its calls, the other files are the
candidates' factories. Without a compiler these candidates say so, and torch's kernels serve.
"""
