"""`python -m` entry points: the only way from the screens and the command line to torch."""
