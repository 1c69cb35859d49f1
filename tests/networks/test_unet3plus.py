import copy
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from fullscale.errors import UsageError
from fullscale.networks.guidance import gate
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.protocol import SegmentationOutput
from fullscale.networks.unet3plus import UNet3Plus


def small(**options) -> UNet3Plus:
    torch.manual_seed(0)
    return UNet3Plus(**{"in_channels": 3, "classes": 3, "width": 4, "skip_channels": 4} | options)


def settled(network: UNet3Plus) -> UNet3Plus:
    """Give the batch norms statistics of their own and put the network in evaluation mode."""
    with torch.no_grad():
        for _ in range(2):
            network.train()(torch.randn(2, network.in_channels, 32, 32))
    return network.eval()


def tell_presence(network: UNet3Plus, *present: bool) -> None:
    """Make guidance say the same of every image."""
    with torch.no_grad():
        network.guidance.conv.weight.zero_()
        network.guidance.conv.bias.copy_(
            torch.tensor([[0.0, 1.0] if structure else [1.0, 0.0] for structure in present]).ravel()
        )


@pytest.mark.parametrize(
    ("supervised", "guided", "parameters"),
    [(False, False, 26_971_777), (True, False, 26_989_637), (True, True, 26_991_687)],
)
def test_parameters_are_those_published(supervised, guided, parameters):
    with torch.device("meta"):
        network = UNet3Plus(3, 1, deep_supervision=supervised, classification_guided=guided)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_decoder_kernels_follow_the_formula_of_the_paper():
    with torch.device("meta"):
        decoders = UNet3Plus(3, 1).decoders
    assert sum(p.numel() for p in decoders.parameters() if p.ndim == 4) == 8_110_080


def test_every_decoder_level_draws_on_all_scales_by_the_right_factor():
    decoders = small().decoders
    log2_scale = [[skip.conv.log2_scale for skip in decoder.skips] for decoder in decoders]
    assert log2_scale == [[0, 1, 2, 3, 4], [-1, 0, 1, 2, 3], [-2, -1, 0, 1, 2], [-3, -2, -1, 0, 1]]


def test_training_gives_five_outputs_at_the_size_of_the_image_and_presence():
    output = small()(torch.randn(2, 3, 33, 50))
    assert isinstance(output, SegmentationOutput)
    assert [tuple(logits.shape) for logits in output.logits] == [(2, 3, 33, 50)] * 5
    assert output.presence.shape == (2, 2, 2)


@pytest.mark.parametrize(("supervised", "guided"), [(True, False), (False, True)])
def test_training_gives_an_output_of_parts_where_there_are_several_levels_or_guidance(supervised, guided):
    output = small(deep_supervision=supervised, classification_guided=guided)(torch.randn(2, 3, 32, 32))
    assert isinstance(output, SegmentationOutput)
    assert len(output.logits) == (5 if supervised else 1)
    assert (output.presence is not None) == guided


def test_training_without_supervision_and_guidance_gives_the_logits_that_supervision_would_have_first():
    image = torch.randn(2, 3, 33, 32)
    network, supervised = small(deep_supervision=False, classification_guided=False), small(classification_guided=False)
    supervised.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(network(image), supervised(image).logits[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [1, 3])
def test_trained_by_a_plain_loop_on_its_logits_it_gates_nothing(classes, seed):
    torch.manual_seed(seed)
    network = UNet3Plus(1, classes, width=2, skip_channels=2).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    image, target = torch.randn(2, 1, 32, 32), torch.randint(0, max(2, classes), (2, 32, 32))
    for _ in range(3):
        logits = network(image).logits[0]
        loss = (
            F.cross_entropy(logits, target)
            if classes > 1
            else F.binary_cross_entropy_with_logits(logits[:, 0], target.float())
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images = torch.cat([image, 10 * torch.randn(3, 1, 32, 32), torch.zeros(1, 1, 32, 32)])
    ungated, _ = network.eval().segment(images)
    assert torch.equal(network(images), ungated)
    network.guidance.dropout.train()  # even a dropout that was left on does not change it
    assert torch.equal(network(images), ungated)


@pytest.mark.parametrize("spatial_dims", [1, 4, "resnet18", True])
def test_other_spatial_dimensions_are_refused(spatial_dims):
    with pytest.raises(UsageError, match=r"spatial_dims is .*: expected 2 for images or 3 for volumes"):
        UNet3Plus(3, 1, spatial_dims)


def test_evaluation_computes_the_finest_output_only(monkeypatch):
    network = settled(small())
    for head in network.heads[1:]:
        monkeypatch.setattr(head, "forward", lambda _: pytest.fail("a side output was computed"))
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_evaluation_is_the_gated_segmentation_and_segment_is_ungated():
    network, image = settled(small()), torch.randn(2, 3, 32, 32)
    tell_presence(network, True, False)
    logits, presence = network.segment(image)
    assert logits[:, 2].abs().max() < 1e3
    torch.testing.assert_close(network(image), gate(logits, presence), rtol=0, atol=0)
    assert (network(image).softmax(dim=1)[:, 2] == 0).all()
    assert (network(image)[:, :2] == logits[:, :2]).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_only_images_that_hold_an_structure_are_decoded(classes, monkeypatch):
    network, image = settled(small(classes=classes)), torch.randn(4, 3, 40, 40)
    structures = max(1, classes - 1)
    says = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])[:, None].repeat(1, structures, 1)
    says[3, 0] = torch.tensor([1.0, 0.0]) if structures > 1 else says[3, 0]
    monkeypatch.setattr(network.guidance, "forward", lambda deepest: says[: len(deepest)])
    whole, presence = network.segment(image)
    decoded = []
    network.decoders[0].register_forward_hook(lambda *call: decoded.append(len(call[2])))
    logits = network(image)
    assert decoded == [2]
    expected = gate(whole, presence)
    torch.testing.assert_close(logits[[0, 3]], expected[[0, 3]])
    structures_of = slice(0 if classes == 1 else 1, None)
    assert torch.equal(logits[1:3, structures_of], expected[1:3, structures_of])
    if classes > 1:
        assert (logits[1:3].softmax(dim=1)[:, 0] == 1).all()


def test_an_unguided_network_gates_nothing():
    network, image = settled(small(classification_guided=False)), torch.randn(1, 3, 32, 32)
    logits, presence = network.segment(image)
    assert presence is None
    assert torch.equal(network(image), logits)


@pytest.mark.parametrize("classes", [1, 3])
def test_gating_in_training_reaches_every_output(classes):
    network, image = small(classes=classes, gate_in_training=True), torch.randn(2, 3, 32, 32)
    tell_presence(network, *([False] if classes == 1 else [False, True]))
    for logits in network(image).logits:
        structure = logits[:, -classes + 1] if classes > 1 else logits[:, 0]
        assert (structure == -16).all()
        assert classes == 1 or (logits[:, 2] != -16).all()


def test_gating_in_training_is_off_unless_asked():
    network = small()
    tell_presence(network, False, False)
    assert all((logits != -16).all() for logits in network(torch.randn(2, 3, 32, 32)).logits)


def test_gating_in_training_without_guidance_is_a_contradiction():
    with pytest.raises(UsageError, match="gate_in_training=True needs"):
        small(classification_guided=False, gate_in_training=True)


@pytest.mark.parametrize("size", [(1, 1), (7, 31), (16, 16), (45, 70)])
def test_any_size_is_the_padded_image_cropped(size):
    network, image = settled(small()), torch.randn(2, 3, *size)
    padded = F.pad(image, (0, -size[1] % 16, 0, -size[0] % 16), mode="replicate")
    expected = network(padded)[..., : size[0], : size[1]]
    torch.testing.assert_close(network(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("encoder", "side"), [("plain", 16), ("plain", 3), ("resnet18", 32)])
def test_one_image_as_small_as_the_deepest_stride_trains(encoder, side):
    network = small(encoder=encoder)
    output = network(torch.randn(1, 3, side, side))
    sum(logits.square().mean() for logits in output.logits).backward()
    assert [tuple(logits.shape) for logits in output.logits] == [(1, 3, side, side)] * 5
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_backbone_logits_return_to_the_size_of_the_image():
    network = settled(small(encoder="resnet18", in_channels=2))
    assert network(torch.randn(2, 2, 45, 70)).shape == (2, 3, 45, 70)


def errors_of_forms(outputs: dict) -> dict:
    exact = outputs[torch.float64, "direct"]
    return {key: ((output.double() - exact).norm() / exact.norm()).item() for key, output in outputs.items()}


def outputs_of_forms(network: UNet3Plus, run) -> dict:
    outputs = {}
    for dtype in (torch.float64, torch.float32):
        for form in ("direct", "factored", "winograd"):
            twin = copy.deepcopy(network).to(dtype)
            set_form(twin, form)
            with torch.no_grad():
                outputs[dtype, form] = run(twin, dtype)
    return outputs


def test_whole_network_is_the_same_function_in_every_form():
    network, image = settled(small(width=8, skip_channels=8)), torch.randn(2, 3, 61, 48)
    error = errors_of_forms(outputs_of_forms(network, lambda twin, dtype: twin.segment(image.to(dtype))[0]))
    for form in ("factored", "winograd"):
        assert error[torch.float64, form] < 1e-12
        assert error[torch.float32, form] < 2e-6


def test_in_training_the_factored_form_is_as_close_to_the_exact_output_as_the_direct_one_and_winograds_nearly():
    network, image = small(width=8, skip_channels=8), torch.randn(2, 3, 61, 48)
    network.guidance.dropout.eval()
    error = errors_of_forms(outputs_of_forms(network, lambda twin, dtype: torch.stack(twin(image.to(dtype)).logits)))
    for form in ("factored", "winograd"):
        assert error[torch.float64, form] < 1e-12
    assert error[torch.float32, "winograd"] < 5 * error[torch.float32, "direct"]
    assert error[torch.float32, "factored"] < 1.5 * error[torch.float32, "direct"]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 2, 32, 32), (1, 3, 4, 32, 32)])
def test_wrong_image_is_refused_with_the_shape_expected(shape):
    for network in (small(), small().eval()):
        with pytest.raises(UsageError, match=r"expected \[batch, 3, height, width\]"):
            network(torch.zeros(shape))


@pytest.mark.parametrize("name", ["in_channels", "classes", "width", "skip_channels"])
def test_zero_of_anything_is_refused(name):
    with pytest.raises(UsageError, match=f"{name} is 0"):
        small(**{name: 0})


def test_bf16_autocast_trains_and_gates():
    network, image = small(), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(image)
        loss = sum(F.cross_entropy(logits, torch.zeros(2, 32, 32, dtype=torch.long)) for logits in output.logits)
    (loss + output.presence.float().square().mean()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    tell_presence(settled(network), False, False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(image)
    assert logits.dtype == torch.bfloat16
    assert (logits.softmax(dim=1)[:, 1:] == 0).all()


@pytest.mark.parametrize("form", ["auto", "factored", "winograd"])
def test_channels_last_gives_the_same(form):
    network, image = settled(small()), torch.randn(2, 3, 33, 47)
    expected, _ = network.segment(image)
    set_form(network, form)
    logits, _ = network.to(memory_format=torch.channels_last).segment(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


of_three_levels_and_five = pytest.mark.parametrize("levels", [3, pytest.param(5, marks=pytest.mark.long)])
"""A graph of five levels has more of the same operations, and takes three times as long."""


@pytest.mark.slow
@of_three_levels_and_five
def test_compiles_as_one_graph_in_evaluation(levels):
    network, image = settled(small(levels=levels)), torch.randn(2, 3, 33, 47)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "form"), [("plain", "auto"), ("plain", "direct"), ("mobilenetv3_small_050", "direct")]
)
def test_gradient_checkpointing_changes_neither_outputs_nor_gradients_nor_statistics(encoder, form):
    image = torch.randn(2, 3, 40, 33, dtype=torch.float64)
    found = []
    for checkpointing in (False, True):
        network = small(encoder=encoder, gradient_checkpointing=checkpointing).double().train()
        set_form(network, form)
        torch.manual_seed(1)  # of dropout
        output = network(image)
        loss = sum(logits.square().mean() for logits in output.logits) + output.presence.square().sum()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((output.logits, output.presence, gradients, dict(network.named_buffers()), network.eval()(image)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)
    batches = [value for name, value in found[1][3].items() if name.endswith("num_batches_tracked")]
    assert batches
    assert all(count == 1 for count in batches)


def test_gradient_checkpointing_in_evaluation_records_nothing_to_recompute():
    plain, checkpointed = settled(small()), settled(small(gradient_checkpointing=True))
    checkpointed.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(checkpointed(image), plain(image))


@pytest.mark.slow
@of_three_levels_and_five
def test_gradient_checkpointing_compiles_as_one_graph(levels):
    network, image = small(levels=levels, gradient_checkpointing=True), torch.randn(2, 3, 33, 47)
    output = torch.compile(network, fullgraph=True, backend="aot_eager")(image)
    sum(logits.mean() for logits in output.logits).backward()
    assert network.encoder.levels[0][0].conv.weight.grad.isfinite().all()
    assert all(b == 1 for name, b in network.named_buffers() if name.endswith("num_batches_tracked"))


@pytest.mark.slow
@of_three_levels_and_five
def test_compiles_as_one_graph_in_training(levels):
    network, image = small(levels=levels), torch.randn(2, 3, 33, 47)
    output = torch.compile(network, fullgraph=True, backend="eager")(image)
    sum(logits.mean() for logits in output.logits).backward()
    assert isinstance(output, SegmentationOutput)
    assert network.encoder.levels[0][0].conv.weight.grad.isfinite().all()


@of_three_levels_and_five
def test_exports_one_graph_for_any_batch_and_any_size_over_one_stride(levels):
    network = settled(small(width=2, skip_channels=2, levels=levels))
    free = torch.export.Dim.DYNAMIC
    example = (torch.randn(2, 3, 45, 37),)
    program = torch.export.export(network, example, dynamic_shapes=({0: free, 2: free, 3: free},)).module()
    for shape in [(1, 3, 45, 37), (3, 3, 64, 48), (2, 3, 17, 100)]:
        image = torch.randn(shape)
        torch.testing.assert_close(program(image), network(image), rtol=1e-4, atol=1e-5)


def step_of_one_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet_{world}", rank=rank, world_size=world)
    network = DistributedDataParallel(small(width=2, skip_channels=2))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    torch.manual_seed(rank)
    for _ in range(2):  # an unused parameter makes the second step fail
        output = network(torch.randn(2, 3, 32, 32))
        loss = sum(logits.square().mean() for logits in output.logits) + output.presence.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save([p.detach() for p in network.module.parameters()], f"{folder}/rank_{rank}_of_{world}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_one_network():
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(step_of_one_rank, args=(2, folder), nprocs=2)
        first, second = (torch.load(Path(folder) / f"rank_{rank}_of_2.pt") for rank in range(2))
    start = list(small(width=2, skip_channels=2).parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(first, start, strict=True) if a.ndim == 4)


def test_one_process_trains_through_ddp():
    with tempfile.TemporaryDirectory() as folder:
        step_of_one_rank(0, 1, folder)
        assert (Path(folder) / "rank_0_of_1.pt").is_file()
