"""From prepared cases to a trained model (the only home of Lightning)."""
