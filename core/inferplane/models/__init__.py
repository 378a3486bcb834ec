"""Model graphs out of layers: a file per family. Importing one imports no torch."""
