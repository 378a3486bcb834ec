"""What models are made of. A layer holds bound kernels and calls them; none imports torch when it
is imported, so that a model can be recorded from its config alone."""
