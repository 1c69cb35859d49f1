"""What every network, loss and augmentation must do, as checks for the tests of whoever writes one.

Each raises `AssertionError` with one line that says what was done and what came of it. Ours pass all of them.
"""

from fullscale.testing.augmentations import check_augmentation
from fullscale.testing.losses import check_loss
from fullscale.testing.networks import check_network

__all__ = ["check_augmentation", "check_loss", "check_network"]
