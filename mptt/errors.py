"""What goes wrong, under one name each."""


class MPTTError(ValueError):
    """Bad input, with the thing named and the way out."""


class MPTTWarning(UserWarning):
    """Something that runs, but perhaps not as meant."""
