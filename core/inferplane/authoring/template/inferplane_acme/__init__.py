"""The acme platform for Inferplane."""
