"""Draw architecture.svg, and list every file of the source in architecture.md: `make map`.

A room's floor is read from tests/test_layers.py, what a file does from the first line of its docstring.
"""

from __future__ import annotations

import ast
import runpy
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SOURCE = ROOT / "src" / "fullscale"
PAGE, FIGURE = HERE / "architecture.md", HERE / "architecture.svg"
BEGIN, END = "<!-- files: written by make map -->\n", "<!-- end of files -->\n"

ROOMS = {
    "errors": "every error, its exit code",
    "text": "one line; nearest name",
    "documents": "JSON, YAML, strictly",
    "registry": "plug-ins by name",
    "extras": "optional libraries",
    "progress": "done, total, item",
    "ending": "how work is told to end",
    "temporary": "left by a crash, swept",
    "config": "settings: schema, reading",
    "files": "atomic writes, locks",
    "runfolder": "every path of a run",
    "geometry": "voxels with their affine",
    "losses": "focal, MS-SSIM, IoU, Dice",
    "networks": "UNet 3+ and its rivals",
    "data": "cases, layouts, files, DICOM, plan, cache",
    "metrics": "overlap, surfaces, presence",
    "work": "cases over processes",
    "inputs": "what is read",
    "outputs": "never over inputs",
    "shares": "shares of a command",
    "views": "slices and neighbours",
    "scoring": "scores of cases; tests",
    "bundle": "a trained model as files",
    "inference": "from a scan to its mask",
    "reporting": "pages and pictures",
    "training": "from cases to a model",
    "export": "ONNX, torch programs",
    "evidence": "what an auditor checks",
    "testing": "contracts for plug-ins",
    "compare": "networks side by side",
    "paper": "the paper, with numbers",
    "search": "settings by trials",
    "serve": "models behind HTTP",
    "bench": "seconds and memory",
    "cli": "one short function a verb",
    "__main__": "python -m fullscale",
}
WAY = ["cli", "data", "geometry", "views", "networks", "inference", "scoring", "reporting"]
FLOORS = {
    0: "words",
    1: "parts",
    2: "data and measures",
    3: "models and scores",
    4: "masks and pages",
    5: "training",
    6: "studies",
    7: "the command",
    8: "the door",
}
WIDTH, MARGIN, LABEL, ROW, GAP = 1180, 16, 150, 74, 10


def floors() -> dict[str, int]:
    """Floor of every room that has files."""
    tower: dict[str, int] = runpy.run_path(str(ROOT / "tests" / "test_layers.py"))["FLOOR"]
    return {
        room: floor for room, floor in tower.items() if (SOURCE / room).is_dir() or (SOURCE / f"{room}.py").exists()
    }


def phrase(path: Path) -> str:
    """What a file does: the first line of its docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].rstrip(".:")


def holds_code(path: Path) -> bool:
    """Whether an __init__.py defines anything itself."""
    return any(
        isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AnnAssign) for node in ast.parse(path.read_text()).body
    )


def files(room: str) -> list[Path]:
    """Files of a room, folders behind the files beside them."""
    alone = SOURCE / f"{room}.py"
    found = [alone] if alone.is_file() else sorted((SOURCE / room).rglob("*.py"), key=lambda p: (len(p.parts), p))
    return [path for path in found if path.name != "__init__.py" or holds_code(path)]


def listing() -> str:
    """Every file under its room and floor, from the top of the tower down."""
    tower, lines = floors(), []
    for floor in sorted(set(tower.values()), reverse=True):
        lines += [f"### Floor {floor}: {FLOORS[floor]}", ""]
        for room in sorted(room for room, at in tower.items() if at == floor):
            for path in files(room):
                inside = path.relative_to(SOURCE)
                lines.append(f"- [`{inside}`](../src/fullscale/{inside}): {phrase(path)}")
        lines.append("")
    return "\n".join(lines) + "\n"


def box(x: float, y: float, width: float, room: str) -> list[str]:
    """One room: its name, its phrase, and its number on the way of a scan."""
    height = ROW - GAP
    words, size = ROOMS[room], 11.5
    shapes = [
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{height}" rx="6" fill="#fff" stroke="#5b6b7c"/>',
        f'<text x="{x + 10:.0f}" y="{y + 24}" font-size="15" font-weight="600">{room}</text>',
    ]
    lines, line = [], ""
    for word in words.split():
        if line and len(f"{line} {word}") * size * 0.53 > width - 16:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    for k, text in enumerate([*lines, line]):
        shapes.append(
            f'<text x="{x + 10:.0f}" y="{y + 41 + 14 * k}" font-size="{size}" fill="#44525f">{escape(text)}</text>'
        )
    if room in WAY:
        cx, cy = x + width - 15, y + 17
        shapes.append(f'<circle cx="{cx:.0f}" cy="{cy}" r="10" fill="#0b6e99"/>')
        shapes.append(
            f'<text x="{cx:.0f}" y="{cy + 4}" font-size="12" font-weight="600" fill="#fff" text-anchor="middle">'
            f"{WAY.index(room) + 1}</text>"
        )
    return shapes


def figure() -> str:
    """The tower: floors one above the other, rooms beside each other, and the way of a scan in numbers."""
    tower = floors()
    levels = sorted(set(tower.values()), reverse=True)
    shapes, y = [], MARGIN
    for floor in levels:
        rooms = sorted((room for room, at in tower.items() if at == floor), key=list(ROOMS).index)
        width = (WIDTH - 2 * MARGIN - LABEL - GAP * (len(rooms) - 1)) / len(rooms)
        width = min(width, 250)
        shapes.append(
            f'<text x="{MARGIN}" y="{y + 24}" font-size="15" font-weight="600" fill="#0b6e99">{floor}</text>'
            f'<text x="{MARGIN + 16}" y="{y + 24}" font-size="12" fill="#44525f">{FLOORS[floor]}</text>'
        )
        for k, room in enumerate(rooms):
            shapes += box(MARGIN + LABEL + k * (width + GAP), y, width, room)
        y += ROW
        if floor:
            shapes.append(
                f'<line x1="{MARGIN}" y1="{y - GAP / 2}" x2="{WIDTH - MARGIN}" y2="{y - GAP / 2}" stroke="#d4dae0"/>'
            )
    shapes.append(
        f'<text x="{MARGIN + LABEL}" y="{y + 12}" font-size="12" fill="#44525f">'
        "A room imports itself and lower floors only. The numbers follow a scan from the command to its report.</text>"
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 26}" width="{WIDTH}" height="{y + 26}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" fill="#16212b">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#f6f8fa"/>', *shapes, "</svg>"]) + "\n"


def page(text: str) -> str:
    """The page with its list of files written anew."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + listing() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    FIGURE.write_text(figure())
