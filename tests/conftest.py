import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans: FULLSCALE_TEST_DATA, or ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FULLSCALE_TEST_DATA", default))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real scans at {folder}; set FULLSCALE_TEST_DATA to their folder")
    return folder
