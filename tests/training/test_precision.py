"""What training computes in: chosen by the machine and by what is trained, never assumed."""

from pathlib import Path

import pytest
import torch

from fullscale.training import fit
from fullscale.training.fit import choose_precision
from fullscale.work import machine

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "chosen"),
    [
        ("auto", True, "bf16-mixed"),
        ("auto", False, "32-true"),
        ("bf16", True, "bf16-mixed"),
        ("32", True, "32-true"),
    ],
)
def test_on_a_processor(wanted: str, has_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "has_bf16", lambda: has_bf16)
    assert choose_precision(wanted, CPU) == chosen


def test_on_a_gpu_the_processor_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "has_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert choose_precision("auto", GPU) == "bf16-mixed"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert choose_precision("auto", GPU) == "32-true"


def test_emulation_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fit, "has_bf16", lambda: False)
    assert choose_precision("bf16", CPU) == "bf16-mixed"
    assert "this machine's cpu does not compute in bf16" in caplog.text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 rdpid\n", True),
        ("processor\t: 0\nflags\t\t: fpu amx_tile amx_bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_bf16_is_what_the_processor_says(
    text: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "cpuinfo")
    assert machine.has_bf16() is found
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "nowhere")
    assert machine.has_bf16() is False
