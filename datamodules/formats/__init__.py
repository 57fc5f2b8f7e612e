"""What one data set has and no other: how its files are named and written, its variables and their units."""
