"""Checks of the source that run before the tests."""
