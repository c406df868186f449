"""The README's figures are those of the data that ships."""

import re
from pathlib import Path

from yolotrt_lab.speed.ladder import Ladder

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_ladder_is_the_shipped_one():
    shipped = Ladder.shipped()
    gains = shipped.gains()
    rows = re.findall(r"^\| ([1-8]) [^|]+\| ([\d,]+) \| ([\d.]*) ?\| ([\d.]+) ms \| (\w+) \|$", README, re.MULTILINE)
    assert rows == [
        (
            str(step.rung.number),
            f"{step.together.frame_us:,.0f}",
            f"{gains[step.rung.number]:.2f}" if step.rung.number in gains else "",
            f"{step.together.p99_us / 1e3:.1f}",
            step.bound,
        )
        for step in shipped.steps
    ]


def test_what_was_claimed_of_the_shipped_ladder_holds():
    claims = Ladder.shipped().claims
    assert len(claims) > 20
    assert [claim.name for claim in claims if not claim.holds] == []
