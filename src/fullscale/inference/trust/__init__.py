"""When not to trust a mask: calibrated probabilities, uncertainty, and the Dice that is to be expected."""
