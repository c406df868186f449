"""Measurements in, ranked findings out."""

from __future__ import annotations

from dataclasses import replace

from ..nsight.trace import Trace
from ..types import Cause, Stage
from .findings import SURE, Diagnosis, Finding
from .measurements import Measurements
from .rules import arrival, gpu, host, settled, waits
from .symptoms import FEWEST_FRAMES, Symptoms
from .traced import traced

_TELLING = {
    "sm_clock_mhz": "the SM clock over the frames, which tells a clock drop from a shared GPU",
    "gpu_processes": "other processes on the GPU, which tell a shared GPU from a clock drop",
    "temperature_c": "temperature and throttle reasons, which tell heat from idle clocks",
    "host_memory_bytes": "the memory of the process, which tells a leak",
}


def judge(measurements: Measurements, trace: Trace | None = None) -> Diagnosis:
    """Why this loop gets slower, or that it does not, or what is left and how to tell it apart.

    `trace` is of the same loop, of as many of its frames as there are; `measurements_of` makes measurements of one
    where there are no others. Series of fewer than 32 frames have no shape: without a trace the verdict is then
    undetermined. TraceError for a trace in which no frames can be found.
    """
    symptoms = Symptoms(measurements)
    findings = _ranked(_findings(symptoms, list(traced(trace)) if trace is not None else None))
    sure = [finding for finding in findings if finding.confidence >= SURE]
    return Diagnosis(
        verdict=sure[0].cause if sure else None,
        findings=tuple(findings),
        growth=symptoms.growth,
        slow_ms=_slow_ms(symptoms),
        pinning_limit_ms=_pinning_limit_ms(symptoms),
        missing=_missing(symptoms, findings),
        origin=measurements.origin,
    )


def _findings(symptoms: Symptoms, proven: list[Finding] | None) -> list[Finding]:
    """Every cause that the symptoms and the trace show: what grows, what only costs, and calm where there is neither.

    `proven` is what the trace shows, None without one.
    """
    found = list(proven or [])
    if not symptoms.growth:
        return found
    known = {finding.cause for finding in found}
    shown = [finding for rule in _PATTERNS if (finding := rule(symptoms)) is not None]
    if proven is not None:  # a trace has every call that makes memory, so that without one there was none
        shown = [finding for finding in shown if finding.cause is not Cause.ALLOCATION or finding.cause in known]
    if not (known | {finding.cause for finding in shown}) & _WAITS_OF_THEIR_OWN:
        shown += gpu.slower_gpu(symptoms)
    found = [_joined(finding, shown) for finding in found] + [each for each in shown if each.cause not in known]
    if not any(finding.cause is Cause.LEAK and finding.confidence >= SURE for finding in found):
        found += [finding for finding in [settled.leak(symptoms)] if finding is not None]
    if proven is None:
        found += _hidden(symptoms, found)
    return found or list(settled.calm(symptoms, traced=proven is not None))


def _hidden(symptoms: Symptoms, found: list[Finding]) -> list[Finding]:
    """An allocation that may lie in a preprocessing stage that grows."""
    known = {finding.cause for finding in found}
    if Cause.PREPROCESS not in known or Cause.ALLOCATION in known:
        return []
    hidden = settled.hidden_allocation(symptoms, symptoms.change(Stage.PREPROCESS).before)
    return [] if hidden is None else [hidden]


def _joined(proven: Finding, shown: list[Finding]) -> Finding:
    """What the trace shows, with what the symptoms say of the same cause."""
    for each in shown:
        if each.cause is proven.cause:
            return replace(
                proven,
                confidence=max(proven.confidence, each.confidence),
                explains_ms=each.explains_ms,
                cure_limit_ms=max(proven.cure_limit_ms, each.cure_limit_ms),
                evidence=(*each.evidence, *proven.evidence),
            )
    return proven


_PATTERNS = (
    arrival.pageable_overload,
    host.preprocess,
    waits.shared_stream,
    waits.launch_queue,
    waits.moved_wait,
    settled.shape_change,
    settled.allocation,
)
_WAITS_OF_THEIR_OWN = {Cause.SHARED_STREAM, Cause.LAUNCH_QUEUE}


def _ranked(findings: list[Finding]) -> list[Finding]:
    def order(finding: Finding) -> tuple[bool, float]:
        sure = finding.confidence >= SURE
        return not sure, -finding.explains_ms if sure else -finding.confidence

    return sorted(findings, key=order)


def _slow_ms(symptoms: Symptoms) -> float:
    """The median of the whole frame where it is slowest."""
    return _highest(symptoms, symptoms.whole()) if symptoms.frames else 0.0


def _highest(symptoms: Symptoms, name: str) -> float:
    return max(symptoms.change(name).high, symptoms.fall(name).high)


def _pinning_limit_ms(symptoms: Symptoms) -> float | None:
    """The upload call where it holds the host; nothing is known of what it would cost then, so all of it. None where
    it was not measured.
    """
    if Stage.UPLOAD not in symptoms.series:
        return None
    upload = _highest(symptoms, Stage.UPLOAD) if symptoms.frames else 0.0
    return upload if upload >= arrival.HELD_MS else 0.0


def _missing(symptoms: Symptoms, findings: list[Finding]) -> tuple[str, ...]:
    if all(finding.confidence >= SURE for finding in findings) and findings:
        return ()
    missing = [text for name, text in _TELLING.items() if name not in symptoms.telemetry]
    if symptoms.frames < FEWEST_FRAMES:
        missing.insert(0, f"frames: {symptoms.frames} are too few to have a shape, {FEWEST_FRAMES} or more are needed")
    if not any(stage in symptoms.series for stage in Stage):
        missing.insert(0, "a time for each stage (preprocess, upload, infer, download, synchronize)")
    elif not {Stage.SYNCHRONIZE, Stage.DOWNLOAD} & symptoms.series.keys():
        missing.insert(
            0, "the calls that wait for the GPU (download, synchronize), which tell its part from the host's"
        )
    return tuple(missing)
