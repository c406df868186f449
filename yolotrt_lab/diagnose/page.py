"""A diagnosis as one HTML page: nothing on it is loaded from elsewhere, so that it can be sent and opens offline."""

from __future__ import annotations

from html import escape

from .findings import SURE, Diagnosis, Evidence, Finding, number
from .text import IN_WORDS, buys_line, open_lines, pinning_line, verdict_line

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; max-width: 60rem; padding: 1rem 1.5rem 3rem; color: #1f2328; background: #fff;
 font: 1.0625rem/1.55 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; margin: 1rem 0 .25rem; }}
h2 {{ font-size: 1.2rem; margin: 2rem 0 .25rem; }}
.verdict {{ font-size: 1.2rem; border-left: 5px solid #0072b2; background: #f6f8fa; padding: .6rem 1rem; }}
.soft {{ color: #59636e; font-size: .9375rem; }}
table {{ border-collapse: collapse; font-size: .9375rem; margin: .75rem 0; }}
th, td {{ text-align: left; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid #d1d9e0; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
svg {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="soft">{origin}</p>
<p class="verdict">{verdict}</p>
<p>{pinning}</p>
<figure style="margin: 1rem 0">{figure}</figure>
{findings}
{missing}
</body>
</html>
"""


def as_html(diagnosis: Diagnosis, svg: str, title: str = "Why does this loop get slower?") -> str:
    """The page; `svg` is the text of an SVG figure, from its `<svg` on."""
    missing = "".join(f"<li>{escape(each)}</li>" for each in diagnosis.missing)
    return _PAGE.format(
        title=escape(title),
        origin=escape(diagnosis.origin),
        verdict=f"Verdict: <strong>{escape(verdict_line(diagnosis))}</strong>{escape(_in_words(diagnosis))}",
        pinning=escape(_sentence(pinning_line(diagnosis))),
        figure=svg,
        findings="\n".join(_section(finding, diagnosis) for finding in diagnosis.findings) or _open(diagnosis),
        missing=f"<h2>Not measured, and it would have told more</h2><ul>{missing}</ul>" if missing else "",
    )


def _in_words(diagnosis: Diagnosis) -> str:
    return f": {'; '.join(IN_WORDS[cause] for cause in diagnosis.causes)}." if diagnosis.causes else ""


def _open(diagnosis: Diagnosis) -> str:
    return "".join(f"<p>{escape(_sentence(line))}</p>" for line in open_lines(diagnosis))


def _section(finding: Finding, diagnosis: Diagnosis) -> str:
    kind = "Found" if finding.confidence >= SURE else "Candidate"
    rows = "".join(map(_row, finding.evidence))
    return (
        f"<section><h2>{kind}: {escape(str(finding.cause))}, {escape(IN_WORDS[finding.cause])}</h2>"
        f'<p class="soft">confidence {finding.confidence:.2f}; {escape(buys_line(finding, diagnosis))}</p>'
        f"<table><thead><tr><th>evidence</th><th></th><th></th><th>frames</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p><strong>Cure.</strong> {escape(_sentence(finding.cure))}</p>"
        f"<p><strong>Run next.</strong> {escape(_sentence(finding.next_experiment))}</p></section>"
    )


def _row(evidence: Evidence) -> str:
    return (
        f'<tr><td>{escape(evidence.what)}</td><td class="number">{number(evidence.value)}</td>'
        f"<td>{escape(evidence.unit)}</td><td>{evidence.first:,} to {evidence.last:,}</td></tr>"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
