"""What leaves the program to be shown to others: the samples as one picture, a run as one web page."""
