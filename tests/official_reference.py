"""A module with the key names of the authors' code, written from the paper's facts, one statement a map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DoubleConv(nn.Module):
    def __init__(self, source: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(source, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Reference(nn.Module):
    def __init__(self, variant: str, in_channels: int, classes: int, width: int, skip: int) -> None:
        super().__init__()
        w, fused = [width, width * 2, width * 4, width * 8, width * 16], 5 * skip
        for level in range(1, 6):
            setattr(self, f"conv{level}", DoubleConv(in_channels if level == 1 else w[level - 2], w[level - 1]))
        skips = {
            4: {"h1_PT_hd4": w[0], "h2_PT_hd4": w[1], "h3_PT_hd4": w[2], "h4_Cat_hd4": w[3], "hd5_UT_hd4": w[4]},
            3: {"h1_PT_hd3": w[0], "h2_PT_hd3": w[1], "h3_Cat_hd3": w[2], "hd4_UT_hd3": fused, "hd5_UT_hd3": w[4]},
            2: {"h1_PT_hd2": w[0], "h2_Cat_hd2": w[1], "hd3_UT_hd2": fused, "hd4_UT_hd2": fused, "hd5_UT_hd2": w[4]},
            1: {"h1_Cat_hd1": w[0], "hd2_UT_hd1": fused, "hd3_UT_hd1": fused, "hd4_UT_hd1": fused, "hd5_UT_hd1": w[4]},
        }
        for level, named in skips.items():
            for name, source in named.items():
                setattr(self, f"{name}_conv", nn.Conv2d(source, skip, 3, padding=1))
                setattr(self, f"{name}_bn", nn.BatchNorm2d(skip))
            setattr(self, f"conv{level}d_1", nn.Conv2d(fused, fused, 3, padding=1))
            setattr(self, f"bn{level}d_1", nn.BatchNorm2d(fused))
        self.outconv1 = nn.Conv2d(fused, classes, 3, padding=1)
        if variant != "plain":
            for level in range(2, 6):
                setattr(self, f"outconv{level}", nn.Conv2d(w[4] if level == 5 else fused, classes, 3, padding=1))
        if variant == "guided":
            self.cls = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(w[4], 2, 1), nn.AdaptiveMaxPool2d(1), nn.Sigmoid())

    def part(self, name: str, x: Tensor) -> Tensor:
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, f"{name}_conv")(x)))

    def fuse(self, level: int, *maps: Tensor) -> Tensor:
        joined = torch.cat(maps, 1)
        return F.relu(getattr(self, f"bn{level}d_1")(getattr(self, f"conv{level}d_1")(joined)))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        def up(source: Tensor, factor: int) -> Tensor:
            return F.interpolate(source, scale_factor=factor, mode="bilinear", align_corners=False)

        part, pool = self.part, F.max_pool2d
        h1 = self.conv1(x)
        h2 = self.conv2(pool(h1, 2))
        h3 = self.conv3(pool(h2, 2))
        h4 = self.conv4(pool(h3, 2))
        hd5 = self.conv5(pool(h4, 2))
        hd4 = self.fuse(
            4,
            part("h1_PT_hd4", pool(h1, 8)),
            part("h2_PT_hd4", pool(h2, 4)),
            part("h3_PT_hd4", pool(h3, 2)),
            part("h4_Cat_hd4", h4),
            part("hd5_UT_hd4", up(hd5, 2)),
        )
        hd3 = self.fuse(
            3,
            part("h1_PT_hd3", pool(h1, 4)),
            part("h2_PT_hd3", pool(h2, 2)),
            part("h3_Cat_hd3", h3),
            part("hd4_UT_hd3", up(hd4, 2)),
            part("hd5_UT_hd3", up(hd5, 4)),
        )
        hd2 = self.fuse(
            2,
            part("h1_PT_hd2", pool(h1, 2)),
            part("h2_Cat_hd2", h2),
            part("hd3_UT_hd2", up(hd3, 2)),
            part("hd4_UT_hd2", up(hd4, 4)),
            part("hd5_UT_hd2", up(hd5, 8)),
        )
        hd1 = self.fuse(
            1,
            part("h1_Cat_hd1", h1),
            part("hd2_UT_hd1", up(hd2, 2)),
            part("hd3_UT_hd1", up(hd3, 4)),
            part("hd4_UT_hd1", up(hd4, 8)),
            part("hd5_UT_hd1", up(hd5, 16)),
        )
        outputs = [self.outconv1(hd1)]
        if hasattr(self, "outconv5"):
            outputs += [up(self.outconv2(hd2), 2), up(self.outconv3(hd3), 4)]
            outputs += [up(self.outconv4(hd4), 8), up(self.outconv5(hd5), 16)]
        presence = self.cls[2](self.cls[1](hd5)).flatten(1) if hasattr(self, "cls") else None
        return outputs, presence


def reference(variant: str, in_channels: int = 3, classes: int = 1, width: int = 2, skip: int = 3) -> Reference:
    torch.manual_seed(0)
    network = Reference(variant, in_channels, classes, width, skip).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.normal_(tensor, 0, 0.3)
    return network.eval()
