"""What the readers of data sets share."""
