"""Options that make each network of the table quick to run."""

SMALL = {
    "unet3+": {"width": 2, "skip_channels": 4},
    "unet": {"width": 2},
    "unet++": {"width": 2},
    "attention-unet": {"width": 2},
    "pspnet": {"encoder": "resnet10t", "width": 4},
    "deeplabv2": {"encoder": "resnet10t"},
    "deeplabv3": {"encoder": "resnet10t", "width": 4},
    "deeplabv3+": {"encoder": "resnet10t", "width": 4},
}
