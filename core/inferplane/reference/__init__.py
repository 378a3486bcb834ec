"""Every op in plain torch: the oracle that all kernels are compared with, and the fallback of a
platform that has none of its own. Written to be read and to be right; arithmetic is in fp32."""
