"""Which folder is which data set."""
