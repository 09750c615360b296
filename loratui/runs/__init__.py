"""The meeting place: a run directory on disk, its one writer, and any number of readers."""
