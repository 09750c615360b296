"""Settings: schema, help, loading with all problems at once, presets, writing."""
