"""What a network is shown: slices with their neighbours."""
