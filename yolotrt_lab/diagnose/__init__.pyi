from .diagram import diagnosed, measured_times, telemetry_column
from .file import judge_file
from .findings import Diagnosis, Evidence, Finding
from .growth import Growth, Shape, Slope, measure_growth, slope
from .measurements import Measurements
from .page import as_html
from .reading.files import read_measurements
from .traced import measurements_of
from .verdicts import judge

__all__ = [
    "Diagnosis",
    "Evidence",
    "Finding",
    "Growth",
    "Measurements",
    "Shape",
    "Slope",
    "as_html",
    "diagnosed",
    "judge",
    "judge_file",
    "measure_growth",
    "measured_times",
    "measurements_of",
    "read_measurements",
    "slope",
    "telemetry_column",
]
