"""The host's processor as a platform."""
