"""What a trained network remembers, for how long, and where: `mptt memory`."""
