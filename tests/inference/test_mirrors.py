"""Mirrored images: what does not care for sides is unchanged, what does is averaged."""

import torch

from fullscale.data.recipe import MIRRORS, Mirror
from fullscale.inference.mirrors import mirrored


def test_every_combination_is_turned_and_turned_back() -> None:
    image = torch.randn(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    seen = []

    def compute(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images

    mirrors: list[Mirror] = ["left-right", "head-foot"]
    torch.testing.assert_close(mirrored(compute, mirrors)(image), image)
    expected = [image, image.flip(-1), image.flip(-3), image.flip(-1, -3)]
    assert len(seen) == 4
    for found, turned in zip(seen, expected, strict=True):
        assert torch.equal(found, turned)


def test_a_network_that_sees_sides_is_averaged_over_them() -> None:
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    found = mirrored(lambda images: images * 0 + ramp, ["left-right"])(torch.zeros(1, 1, 4, 5))
    torch.testing.assert_close(found, torch.full((1, 1, 4, 5), 2.0))


def test_without_mirrors_nothing_is_touched() -> None:
    assert mirrored(torch.sin, ()) is torch.sin
    assert sorted(MIRRORS.values()) == [-3, -2, -1]
