"""Rooms on the keys 1 to 6, and the dialogs over them, one a file."""
