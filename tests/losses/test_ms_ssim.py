import numpy as np
import pytest
import pytorch_msssim
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.losses.ms_ssim import C1, WANG_WEIGHTS, MSSSIMLoss, fit_scales, ms_ssim
from tests.losses.loss_twins import halve, ms_ssim_of_maps
from tests.losses.loss_twins import ms_ssim as literal_loss

VARIANTS = ["paper", "wang"]


def blobs(batch, classes, height, width, seed=0):
    """Truth with connected structures `[B, H, W]`, and class logits that mostly agree with it."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(batch, max(2, classes), height, width, generator=generator, dtype=torch.float64)
    smooth = F.avg_pool2d(field, 9, stride=1, padding=4) * 10
    target = smooth.argmax(dim=1)
    noise = torch.randn(field.shape, generator=generator, dtype=torch.float64)
    logits = smooth + 0.5 * noise
    return (logits[:, 1:] - logits[:, :1] if classes == 1 else logits), target


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"), [(48, 64), (41, 43), (16, 16), (8, 8), (7, 30), (1, 1), (2, 5)], ids=lambda n: str(n)
)
def test_equals_the_formula_window_by_window(variant, classes, height, width):
    logits, target = blobs(2, classes, height, width)
    got = MSSSIMLoss(variant)(logits, target).item()
    assert got == pytest.approx(literal_loss(logits.numpy(), target.numpy(), variant), abs=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_five_scales_equal_the_formula_with_a_small_window(variant):
    logits, target = blobs(1, 1, 53, 66)
    got = MSSSIMLoss(variant, window=3, sigma=0.8)(logits, target).item()
    assert fit_scales(53, 3, WANG_WEIGHTS) == (3, pytest.approx(WANG_WEIGHTS))
    assert got == pytest.approx(literal_loss(logits.numpy(), target.numpy(), variant, 3, 0.8), abs=1e-12)


@pytest.mark.parametrize("weights", [(1.0,), (0.2, 0.7), (0.5, 0.1, 0.9)])
@pytest.mark.parametrize("side", [48, 20])
def test_other_weights_equal_the_formula(weights, side):
    logits, target = blobs(1, 1, side, side)
    got = MSSSIMLoss(weights=weights)(logits, target).item()
    assert got == pytest.approx(literal_loss(logits.numpy(), target.numpy(), weights=weights), abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(176, 192), (208, 176)])
def test_wang_variant_equals_pytorch_msssim(height, width):
    logits, target = blobs(2, 3, height, width)
    p = logits.softmax(dim=1)[:, 1:]
    g = F.one_hot(target, 3).movedim(-1, 1)[:, 1:].to(p.dtype)
    offset = torch.arange(11, dtype=p.dtype) - 5
    kernel = torch.exp(-(offset**2) / (2 * 1.5**2))
    kernel = (kernel / kernel.sum()).expand(2, 1, 1, 11)
    expected = pytorch_msssim.ms_ssim(p, g, data_range=1, size_average=False, win=kernel)
    assert ms_ssim(p, g, "wang").mean(dim=1).numpy() == pytest.approx(expected.numpy(), abs=1e-12)
    assert (expected > 0.1).all()


def test_luminance_counts_at_fine_scales_in_the_paper_alone():
    logits, target = blobs(1, 1, 48, 48)
    assert MSSSIMLoss("paper")(logits, target).item() > MSSSIMLoss("wang")(logits, target).item() + 1e-3


def test_flat_1_against_flat_0_by_hand():
    logits, target = torch.full((1, 1, 176, 176), 50.0, dtype=torch.float64), torch.zeros(1, 176, 176, dtype=torch.long)
    luminance = C1 / (1 + C1)
    paper, wang = MSSSIMLoss("paper"), MSSSIMLoss("wang")
    assert paper(logits, target).item() == pytest.approx(1 - luminance ** sum(WANG_WEIGHTS), rel=1e-12)
    assert wang(logits, target).item() == pytest.approx(1 - luminance**0.1333, rel=1e-12)


@pytest.mark.parametrize(
    ("shorter", "window", "scales"),
    [
        *[(512, 11, 5), (161, 11, 5), (160, 11, 4), (81, 11, 4), (80, 11, 3), (41, 11, 3), (40, 11, 2), (21, 11, 2)],
        *[(20, 11, 1), (11, 11, 1), (10, 9, 1), (8, 7, 1), (3, 3, 1), (48, 11, 3), (224, 11, 5)],
    ],
)
def test_scales_and_window_that_fit_a_shorter_side(shorter, window, scales):
    fitted, weights = fit_scales(shorter, 11, WANG_WEIGHTS)
    assert (fitted, len(weights)) == (window, scales)
    assert sum(weights) == pytest.approx(sum(WANG_WEIGHTS))
    assert weights[-1] / weights[0] == pytest.approx(WANG_WEIGHTS[scales - 1] / WANG_WEIGHTS[0])


def test_a_loss_tells_at_how_many_scales_it_compares() -> None:
    assert [MSSSIMLoss().scales(size) for size in [(512, 161), (32, 48, 32), (8, 200, 200)]] == [5, 2, 1]
    assert MSSSIMLoss(window=3).scales((32, 48, 32)) == 4


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", [16, 48])
def test_negative_structure_equals_the_documented_continuation(variant, side):
    rng = np.random.default_rng(3)
    g = (rng.random((side, side)) > 0.5).astype(float)
    p = 0.5 + 0.8 * (0.5 - g)
    got = ms_ssim(torch.tensor(p)[None, None], torch.tensor(g)[None, None], variant).item()
    assert got == pytest.approx(ms_ssim_of_maps(p, g, variant), abs=1e-12)
    assert got < -0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_falls_evenly_from_agreement_through_nothing_to_contradiction(variant):
    truth = (torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(4), dtype=torch.float64) > 0.5).double()
    along = torch.linspace(1, -1, 41, dtype=torch.float64)
    similarity = [ms_ssim(0.5 + t * (truth - 0.5), truth, variant).item() for t in along]
    assert similarity[0] == pytest.approx(1)
    assert -1.1 < similarity[-1] < -0.5
    assert (np.diff(similarity) < 0).all()


@pytest.mark.parametrize(
    ("variant", "size"), [("paper", 0.1), ("paper", 1.0), ("paper", 4.0), ("wang", 0.1), ("wang", 2.0)]
)
def test_gradient_leads_out_of_contradiction(variant, size):
    _, target = blobs(2, 1, 48, 64)
    toward = (2 * target - 1).unsqueeze(1).double()
    logits = (-size * toward).requires_grad_()
    MSSSIMLoss(variant)(logits, target).backward()
    assert logits.grad.isfinite().all()
    assert (-logits.grad * toward).sum() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("start", [-2.0, 0.0])
def test_descent_from_contradiction_and_from_indecision_arrives_near_the_truth(variant, start):
    _, target = blobs(1, 1, 24, 24, seed=7)
    logits = (start * (2 * target - 1).unsqueeze(1).double()).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = MSSSIMLoss(variant)(logits, target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert ((logits.squeeze(1) > 0) == (target == 1)).double().mean() > 0.97


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_gradcheck_on_several_scales(variant, sign):
    logits, target = blobs(1, 1, 45, 42)
    logits = (sign * 0.3 * logits).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: MSSSIMLoss(variant)(x, target), logits, fast_mode=True)


def test_odd_edges_are_averaged_by_themselves():
    x = np.arange(15.0).reshape(3, 5)
    assert F.avg_pool2d(torch.tensor(x)[None, None], 2, ceil_mode=True)[0, 0].numpy() == pytest.approx(halve(x))
    assert halve(x)[1, 2] == 14


def test_float32_is_close_to_float64():
    logits, target = blobs(2, 3, 96, 80)
    loss = MSSSIMLoss()
    assert loss(logits.float(), target).item() == pytest.approx(loss(logits, target).item(), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"variant": "mean"}, "variant"),
        ({"window": 10}, "window"),
        ({"window": -1}, "window"),
        ({"sigma": 0.0}, "sigma"),
        ({"weights": ()}, "weights"),
        ({"weights": (0.5, 0.0)}, r"weights\[1\]"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, name):
    with pytest.raises(UsageError, match=name):
        MSSSIMLoss(**settings)
