"""`mptt compare`: the grid of runs, how they are run, what they come to, and how it is shown."""
