"""The page and the picture of the recorded ladder, after data/ladders/h200/bench.json was measured anew:

python -m scripts.write_ladder
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import fill

from matplotlib import pyplot as plt

from yolotrt_lab.speed.ladder import Ladder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ladder.md"

_RUNGS = {
    "1 naive": "naive",
    "2 pinned, copied": "pinned pool, a fresh array copied into it",
    "2 pinned, in place": "pinned pool, filled in place",
    "3 graph": "CUDA graph",
    "4 overlap": "copies and compute overlap",
    "5 letterbox": "letterbox on the GPU",
    "6 decode": "boxes found on the GPU",
    "7 contexts": "six contexts in flight",
    "8 batches": "batches of four, four contexts",
    "9 nv12": "frames in NV12, batches of sixteen, three contexts",
}
_PEERS = {
    "ultralytics predict": "ultralytics `predict`, frame to boxes",
    "torch fp16 forward": "PyTorch, FP16, input ready",
    "torch fp16 CUDA graph": "PyTorch, FP16, CUDA graph, input ready",
    "trtutils execute": "trtutils `execute`, input ready, on TensorRT-RTX",
}


def page(ladder: Ladder) -> str:
    """How fast it can be, as far as it was measured."""
    steps = [step for step in ladder.steps if step.bound == "host"]
    parts = [
        wrapped(
            "Nine rungs, each one setting more, 1080p frames in host memory to boxes in host memory",
            "(`benchmarks/ladder_claims.py`, one H200, TensorRT-RTX 1.4.0.76,",
            f"{ladder.source.date}, medians of {ladder.steps[-1].together.frames:,} frames):",
        ),
        rungs(ladder),
        "![What a frame of each rung asks of the engine, the copies and the host, and what it takes: down to rung "
        f"{steps[-1].rung.number} the host is the bound, then the engine or the upload](ladder.png)",
        limits(ladder),
        boxes(ladder),
        peers(ladder),
    ]
    return "\n\n".join(["# How fast it can be", *filter(None, parts)]) + "\n"


def wrapped(*sentences: str) -> str:
    """A paragraph."""
    return fill(" ".join(sentences), 120, break_long_words=False, break_on_hyphens=False)


def rungs(ladder: Ladder) -> str:
    """A row a line of the ladder."""
    rows, gains = (
        ["| rung | us a frame | gain over the line before | p99 latency | bound by |", "|---|---|---|---|---|"],
        ladder.gains(),
    )
    for step in ladder.steps:
        label, took = step.rung.label, step.together
        gain = f"{gains[label]:.2f} " if label in gains else ""
        name = f"{step.rung.number} {_RUNGS[label]}"
        rows.append(f"| {name} | {took.frame_us:,.0f} | {gain}| {took.p99_us / 1e3:.1f} ms | {step.bound} |")
    return "\n".join(rows)


def limits(ladder: Ladder) -> str:
    """What the rungs are held against, and how steady they are."""
    found, took = ladder.limits, {step.rung.number: step.together.frame_us for step in ladder.steps}
    claims = {claim.name: claim.value for claim in ladder.claims}
    alone_us = claims["latency of a frame alone, against the engine alone"] * found.engine_us
    looking = max(value for name, value in claims.items() if "with timers and telemetry" in name) - 1
    in_nv12 = f" in BGR, {found.nv12_upload_us:,.0f} us in NV12"
    shares = f"Rung 8 takes {took[8] / found.many_us:.2f} of its limit, rung 9 {took[9] / found.many_nv12_us:.2f}"
    return wrapped(
        f"The limits of the same run: the engine alone, one frame at a time, {found.engine_us:,.0f} us, at its best",
        f"rate {found.best_engine_us:,.0f} us; the pinned upload of a frame, {found.upload_us:,.0f} us{in_nv12}.",
        f"{shares} (limits are measured apart from rungs). A frame that is submitted alone takes {alone_us:,.0f} us.",
        "Over 100,000 frames latency does not grow, nor does memory; on a clock at 95 % of their",
        f"capacity rungs 6 to {max(took)} keep their latency; timers and telemetry cost {100 * looking:.1f} %.",
    )


def boxes(ladder: Ladder) -> str:
    """Whose boxes are whose."""
    said = "Rungs 6 to 8 find rung 1's boxes in all of 500 frames"
    by_batches = {claim.name[:21]: claim for claim in ladder.claims if claim.name.startswith("batches of 16 in ")}
    sentences = [f"{said}."]
    if by_batches:
        numbers = re.findall(r"\d+(?= and| of \d+,| between)", by_batches["batches of 16 in fp16"].detail)
        wide, narrow, between = numbers
        fp32, failed = by_batches["batches of 16 in fp32"], [claim for claim in ladder.claims if not claim.holds]
        in_fp32 = f"and four differ in {int(fp32.value) or 'none'}."
        if failed == [fp32]:
            in_fp32 = in_fp32[:-1] + f": {fp32.detail}. That is the one claim of {len(ladder.claims)} that fails."
        sentences = [
            f"{said}, and rung 9 finds in planes what it finds in the same frames in BGR. But TensorRT-RTX has other",
            f"kernels for batches of sixteen: in FP16 they have other boxes than batches of four in {between} of the",
            f"frames, and other boxes than FP32 in {wide}, batches of four in {narrow}. In FP32 without TF32 sixteen",
            in_fp32,
        ]
    return wrapped(
        *sentences,
        "All this depends on the GPU: on an H100, TensorRT-RTX had other kernels for batches of four, and in FP16",
        "rung 8 had other boxes in 66 of 500 frames (2026-11-26; none in FP32).",
    )


def peers(ladder: Ladder) -> str:
    """A row each of the peers that were measured."""
    took = {name.partition(",")[0]: us for name, us in ladder.peers.items()}
    rows = [f"| {text} | {took[name]:,.0f} |" for name, text in _PEERS.items() if isinstance(took.get(name), float)]
    hosts = "\nHosts differ: beside an H100, `predict` took 5,438 us (2026-11-26)."
    return "\n".join(["| other ways, same run | us a frame |", "|---|---|", *rows, hosts]) if rows else ""


def main() -> None:
    """Write the page, and draw the picture."""
    from scripts.make_figures import ladder_bounds

    PAGE.write_text(page(Ladder.shipped()), encoding="utf-8")
    plt.switch_backend("Agg")
    ladder_bounds()


if __name__ == "__main__":
    main()
