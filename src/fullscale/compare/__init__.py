"""Several networks on the same cases, at the same cost, side by side."""
