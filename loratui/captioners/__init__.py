"""Models that describe pictures, one file each; `spec` is the light table of them."""
