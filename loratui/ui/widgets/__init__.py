"""Widgets of our own, one a file; they know nothing of rooms."""
