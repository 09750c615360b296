"""Pictures and captions, without torch and without the terminal."""
