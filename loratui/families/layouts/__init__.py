"""Tensor names of original checkpoint layouts against those of diffusers and transformers."""
