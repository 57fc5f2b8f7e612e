"""From a data set to checked, scaled parts."""
