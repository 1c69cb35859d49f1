"""What a run is: typed settings, and how they are read."""
