"""The public names: all there, loaded on first use, documented."""

import subprocess
import sys

import pytest

import fullscale


@pytest.mark.parametrize("name", fullscale.__all__)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    assert getattr(fullscale, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'UNet4'"):
        _ = fullscale.UNet4
    assert set(fullscale.__all__) <= set(dir(fullscale))


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, fullscale; sys.exit(bool({'torch', 'numpy', 'monai', 'nibabel'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
