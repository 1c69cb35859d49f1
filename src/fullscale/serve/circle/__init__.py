"""The circle: what to look at first, corrected cases as a data set, training on them, and the choice of a model."""
