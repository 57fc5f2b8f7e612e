"""The commands `mptt data inspect`, `convert` and `download`."""
