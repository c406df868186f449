from .accounts import Bill, bill, compare
from .diagram import drawn, measured_times, telemetry_column
from .explanations import EXPLANATIONS
from .formats import read
from .measured import Measured, join
from .render import as_html
from .slope import Slope, slope

__all__ = [
    "EXPLANATIONS",
    "Bill",
    "Measured",
    "Slope",
    "as_html",
    "bill",
    "compare",
    "drawn",
    "join",
    "measured_times",
    "read",
    "slope",
    "telemetry_column",
]
