"""Weight files on disk, without torch: headers, what a LoRA's keys match, and conversion between formats."""
