"""A trained model as files."""
