"""What there is to know of a memory, in numbers: torch and numpy, nothing of Lightning or of data sets."""
