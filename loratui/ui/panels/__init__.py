"""The framed parts of the rooms, one a file; they know no other panel."""
