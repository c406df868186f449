"""The picture of the package in README: the core's files around the loop, and the wings (`make figures`)."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

PACKAGE = Path(__file__).resolve().parent.parent / "yolotrt_lab"
CORE = {
    "words": ("errors", "types", "files", "packages"),
    "device": ("device", "cuda", "memory"),
    "engine": ("engine", "tensorrt", "plans", "onnxruntime", "model"),
    "pixels": ("frames", "vision", "heads"),
    "what it leaves": ("recording", "telemetry", "tables", "plots/"),
}
WINGS = (
    ("simulate/", "a CUDA device in virtual time", 0.5, 7.9),
    ("causes/", "each cause of growth, and its cure", 0.5, 5.6),
    ("gym/", "exercises, and the check of a loop", 0.5, 3.3),
    ("speed/", "overlap, GPU kernels, the ladder", 0.5, 1.0),
    ("nsight/", "traces: take, read, split each wait", 11.5, 7.6),
    ("diagnose/", "a log, recording or trace explained", 11.5, 4.5),
    ("detector/", "the lab's own YOLOv8n, and the scene it knows", 11.5, 1.4),
)
HEIGHT = 1.6


def box(ax: plt.Axes, place: tuple[float, float, float, float], colour: str) -> None:
    """A rounded rectangle (left, bottom, width, height)."""
    left, bottom, width, height = place
    style = "round,pad=0,rounding_size=0.15"
    ax.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=style, facecolor=colour, edgecolor="#555555"))


def core(ax: plt.Axes) -> None:
    """The loop in the middle, and a column of files for each of the core's themes."""
    box(ax, (4.6, 1.2, 6.0, 8.4), "#F4F6FA")
    ax.text(7.6, 9.2, "the core: files, which import no wing", ha="center", weight="bold")
    box(ax, (5.0, 7.0, 5.2, 1.7), "#FFE2B8")
    ax.text(7.6, 8.15, "loop.py", ha="center", va="center", weight="bold", family="monospace", fontsize=12)
    stages = "wait  preprocess  upload  infer\ndownload  synchronize  postprocess"
    ax.text(7.6, 7.5, stages, ha="center", va="center", fontsize=8.5)
    for row, (theme, names) in enumerate(CORE.items()):
        assert all((PACKAGE / name.rstrip("/")).exists() or (PACKAGE / f"{name}.py").exists() for name in names)
        y = 6.35 - row * 1.05
        ax.text(5.0, y, theme, fontsize=8.5, color="#555555")
        ax.text(5.0, y - 0.4, "  ".join(names), family="monospace", fontsize=8.8)


def house() -> plt.Figure:
    """The whole picture."""
    figure, ax = plt.subplots(figsize=(10.5, 6.2))
    core(ax)
    for name, what, left, bottom in WINGS:
        assert (PACKAGE / name / "__init__.py").exists()
        box(ax, (left, bottom, 3.4, HEIGHT), "#DCE9DC")
        ax.text(left + 1.7, bottom + 1.1, name, ha="center", weight="bold", family="monospace", fontsize=12)
        ax.text(left + 1.7, bottom + 0.5, what.replace(", ", ",\n", 1), ha="center", va="center", fontsize=8.5)
        edge = (left + 3.4, 4.6) if left < 4 else (left, 10.6)
        middle = bottom + HEIGHT / 2
        ax.annotate("", (edge[1], middle), (edge[0], middle), arrowprops={"arrowstyle": "->", "color": "#555555"})
    for x, bottom, top in ((2.2, 7.2, 7.9), (13.2, 6.1, 7.6)):  # causes use simulate, diagnose uses nsight
        ax.annotate("", (x, top), (x, bottom), arrowprops={"arrowstyle": "->", "color": "#555555"})
    arc = {"arrowstyle": "->", "color": "#555555", "connectionstyle": "arc3,rad=-0.2"}
    ax.annotate("", (0.5, 8.3), (0.5, 4.1), arrowprops=arc)  # gym uses simulate
    dashed = {"arrowstyle": "->", "color": "#999999", "linestyle": "dashed", "connectionstyle": "arc3,rad=0.25"}
    ax.annotate("", (0.5, 1.8), (0.5, 8.7), arrowprops=dashed)
    ax.text(-0.72, 5.3, "calibration", rotation=90, va="center", fontsize=7.5, color="#777777")
    ax.text(
        7.6,
        0.45,
        "cli.py   terminal.py   doctor.py   notebooks.py   page.py: the app, on top of all",
        ha="center",
        fontsize=9,
    )
    ax.text(7.6, 9.95, "An arrow points at what is imported", ha="center", fontsize=8.5, color="#555555")
    ax.set(xlim=(-0.9, 15.4), ylim=(0, 10.3))
    ax.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


if __name__ == "__main__":
    house().savefig(PACKAGE.parent / "docs" / "house.png", dpi=110, metadata={"Software": None})
