"""Medical image segmentation with UNet 3+."""
