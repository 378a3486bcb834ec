"""Portable Triton kernels, offered to every platform that has Triton."""
