"""Weights that torch wrote: whole, or refused."""

from pathlib import Path

import pytest
import torch

from fullscale.errors import DataError
from fullscale.networks.state_dicts import read_state_dict


def test_every_flipped_byte_of_weights_from_others_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path, weights = tmp_path / "own.pth", torch.arange(300.0)
    torch.save({"weight": weights}, path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert torch.equal(read_state_dict(path)["weight"], weights), place
        except DataError as error:
            refused += str(path) in str(error) and "\n" not in str(error)
    assert refused > 1200 / 13


def test_weights_that_were_saved_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.arange(300.0)}, tmp_path / "own.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_state_dict(tmp_path / "own.pth")["weight"], torch.arange(300.0))
    with pytest.raises(DataError, match="not there"):
        read_state_dict(tmp_path / "other.pth")
