"""Network types: one file each behind `protocol.Network`."""
