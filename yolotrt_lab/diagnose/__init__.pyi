from .accounts import Bill, bill
from .explanations import EXPLANATIONS
from .formats import read
from .measured import Measured, join
from .render import as_html, compare, drawn, telemetry_column
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
    "read",
    "slope",
    "telemetry_column",
]
