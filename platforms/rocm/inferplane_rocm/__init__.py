"""AMD GPUs for Inferplane."""
