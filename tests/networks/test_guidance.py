"""Which structures an image holds: the module that tells, how it starts and learns, and the gate."""

import math

import pytest
import torch

from fullscale.losses.supervision import presence_loss
from fullscale.networks.guidance import (
    TRAINING_ABSENT_LOGIT,
    Guidance,
    absent,
    count_structures,
    decode_present,
    gate,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def presence_of(*present: list[bool]) -> torch.Tensor:
    return torch.tensor([[[0.0, 1.0] if structure else [1.0, 0.0] for structure in member] for member in present])


@pytest.mark.parametrize("dtype", DTYPES)
def test_absent_structure_has_a_sigmoid_of_exactly_zero(dtype):
    logits = torch.full((2, 1, 2, 2), 30.0, dtype=dtype)
    gated = gate(logits, presence_of([False], [True]))
    assert (gated[0].sigmoid() == 0).all()
    assert torch.equal(gated[1], logits[1])
    assert gated.dtype == dtype
    assert gated.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("background", [-10000.0, 0.0, 10000.0])
def test_absent_structure_has_a_softmax_of_exactly_zero(dtype, background):
    logits = torch.zeros(1, 3, 2, 2, dtype=dtype)
    logits[:, 0] = background
    logits[:, 1] = 20000.0
    probabilities = gate(logits, presence_of([False, False])).softmax(dim=1)
    assert (probabilities[:, 1:] == 0).all()
    assert (probabilities[:, 0] == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_logits_beside_others_interpolate_to_finite_values(dtype):
    logits = torch.full((1, 1, 3, 3), 8.0, dtype=dtype)
    gated = gate(logits, presence_of([False]))
    mixed = torch.cat([gated, logits], dim=3)
    resized = torch.nn.functional.interpolate(mixed, scale_factor=2.0, mode="bilinear")
    assert resized.isfinite().all()


def test_structures_and_batch_members_are_gated_one_by_one():
    logits = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 2, 2)
    gated = gate(logits, presence_of([True, False], [False, True]))
    untouched = torch.tensor([[True, True, False], [True, False, True]])
    assert torch.equal((gated == logits).all(dim=(2, 3)), untouched)


def test_presence_logits_that_tie_as_probabilities_are_told_apart():
    presence = torch.tensor([[[17.0, 20.0]], [[20.0, 17.0]]])
    assert torch.equal(presence.sigmoid()[0, 0, 0], presence.sigmoid()[0, 0, 1])
    gated = gate(torch.ones(2, 1, 1, 1), presence)
    assert gated[0].item() == 1
    assert gated[1].sigmoid().item() == 0


def test_a_tie_of_presence_is_absent():
    assert gate(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 2)).sigmoid().item() == 0


def test_without_presence_nothing_is_gated():
    logits = torch.randn(1, 2, 3, 3)
    assert gate(logits, None) is logits


def test_training_gate_is_a_small_probability_without_gradient():
    logits = torch.full((2, 1, 2, 2), 5.0, requires_grad=True)
    gated = gate(logits, presence_of([False], [True]), TRAINING_ABSENT_LOGIT)
    assert math.isclose(gated[0].sigmoid().max().item(), 1.125e-7, rel_tol=1e-3)
    gated.sum().backward()
    assert logits.grad[0].abs().max() == 0
    assert logits.grad[1].min() == 1


@pytest.mark.parametrize(("classes", "structures"), [(1, 1), (2, 1), (3, 2), (7, 6)])
def test_every_class_but_the_background_is_an_structure(classes, structures):
    assert count_structures(classes) == structures


def taught(guidance: Guidance) -> Guidance:
    """Give it weights that are not zero."""
    torch.nn.init.normal_(guidance.conv.weight)
    return guidance


def test_guidance_takes_the_maximum_of_a_linear_map_over_all_positions():
    guidance = taught(Guidance(4, structures=3)).eval()
    deepest = torch.randn(2, 4, 3, 5)
    weight, bias = guidance.conv.weight[:, :, 0, 0], guidance.conv.bias
    expected = torch.einsum("oc,bchw->bohw", weight, deepest).add(bias[:, None, None]).flatten(2).max(dim=2).values
    torch.testing.assert_close(guidance(deepest), expected.reshape(2, 3, 2))


def test_guidance_drops_out_in_training_only():
    guidance = taught(Guidance(64, structures=1))
    deepest = torch.rand(1, 64, 2, 2)
    assert not torch.equal(guidance(deepest), guidance(deepest))
    guidance.eval()
    assert torch.equal(guidance(deepest), guidance(deepest))


@pytest.mark.parametrize("structures", [1, 4])
def test_fresh_guidance_finds_every_structure_in_any_image(structures):
    guidance = Guidance(8, structures)
    for deepest in (torch.zeros(2, 8, 3, 3), 1e4 * torch.randn(2, 8, 1, 1), torch.rand(2, 8, 5, 4)):
        for mode in (True, False):
            assert not absent(guidance.train(mode)(deepest)).any()


def test_no_random_draw_decides_how_guidance_starts():
    torch.manual_seed(1)
    one = Guidance(8, structures=3).state_dict()
    torch.manual_seed(2)
    torch.testing.assert_close(Guidance(8, structures=3).state_dict(), one, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_guidance_has_a_gradient_in_every_weight(dtype):
    torch.manual_seed(0)
    guidance = Guidance(6, structures=2).to(dtype).eval()
    presence = guidance(torch.rand(3, 6, 4, 5, dtype=dtype))
    presence_loss(presence, torch.tensor([[True, False]] * 3)).backward()
    assert (guidance.conv.weight.grad != 0).all()
    assert (guidance.conv.bias.grad != 0).all()


def test_guidance_learns_to_tell_absent_from_present_by_one_bright_pixel():
    """Each structure has a channel of its own, bright in one pixel of the deepest map where the structure is."""
    torch.manual_seed(0)
    guidance = Guidance(16, structures=2)
    optimizer = torch.optim.AdamW(guidance.parameters(), lr=0.1)

    def draw(images: int) -> tuple[torch.Tensor, torch.Tensor]:
        deepest, present = torch.rand(images, 16, 4, 4), torch.rand(images, 2) < 0.5
        pixels = torch.randint(0, 16, (images, 2))
        for structure in range(2):
            deepest[:, structure].flatten(1).scatter_add_(
                1, pixels[:, structure : structure + 1], 4.0 * present[:, structure : structure + 1]
            )
        return deepest, present

    for _ in range(60):
        deepest, present = draw(32)
        optimizer.zero_grad()
        presence_loss(guidance.train()(deepest), present).backward()
        optimizer.step()
    deepest, present = draw(200)
    said = ~absent(guidance.eval()(deepest))
    assert (said == present).float().mean() > 0.95
    assert 0.3 < present.float().mean() < 0.7


def test_without_presence_everything_is_decoded_and_nothing_gated():
    maps = [torch.randn(2, 3, 4, 4)]
    assert torch.equal(decode_present(lambda maps: maps[0], maps, None, (2, 3, 4, 4)), maps[0])


def test_images_without_a_structure_are_not_decoded():
    maps = [torch.randn(4, 2, 4, 4)]
    presence = presence_of([True], [False], [False], [True])
    seen = []

    def decode(maps: list[torch.Tensor]) -> torch.Tensor:
        seen.append(len(maps[0]))
        return maps[0]

    logits = decode_present(decode, maps, presence, (4, 2, 4, 4))
    assert seen == [2]
    assert torch.equal(logits[[0, 3]], maps[0][[0, 3]])
    assert (logits[1:3, 0] == 0).all()
    assert (logits[1:3].softmax(dim=1)[:, 1] == 0).all()
    assert (decode_present(decode, maps, presence_of(*[[False]] * 4), (4, 2, 4, 4))[:, 0] == 0).all()
    assert seen == [2]
