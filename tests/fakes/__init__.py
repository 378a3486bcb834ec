"""Small stand-ins that several tests share."""
