"""What pyproject.toml cannot say: a wheel has the page of the service, built by npm unless `make page` did."""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SOURCE, BUILT = HERE / "page", HERE / "src" / "fullscale" / "serve" / "static" / "index.html"


class BuildWithPage(build_py):
    """Builds the page first, but for an installation that points at a checkout."""

    def run(self) -> None:
        """Build."""
        if not self.editable_mode and SOURCE.is_dir() and not BUILT.is_file():
            if shutil.which("npm") is None:
                self.warn("no npm here: the service will have no page; make page builds it where there is")
            else:
                subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=SOURCE, check=True)
                subprocess.run(["npm", "run", "build"], cwd=SOURCE, check=True)
        super().run()


setup(cmdclass={"build_py": BuildWithPage})
