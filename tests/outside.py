"""A package of somebody else's, as an installer leaves it: modules, and a dist-info with entry points."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, package: str, modules: Mapping[str, str], entry_points: str = "") -> Path:
    """Put `package` into the folder `site`, which is to be put on the path.

    Args:
        site: folder, made where it is not there.
        package: name of the distribution.
        modules: text of each file by its name, such as `tiny/nets.py`.
        entry_points: text of `entry_points.txt`.
    """
    for name, text in modules.items():
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    record = site / f"{package.replace('-', '_')}-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(entry_points)
    return site
