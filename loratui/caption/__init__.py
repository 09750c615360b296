"""Captioning runs without torch: settings, composing captions, launching, the results of a run."""
