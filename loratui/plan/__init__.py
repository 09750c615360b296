"""What a training would do, before it starts: steps, buckets, sizes, memory."""
