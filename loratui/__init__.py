"""loratui: train diffusion LoRAs from the terminal."""

__version__ = "0.1.0"
