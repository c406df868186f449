from .accounts import Bill, bill
from .explanations import EXPLANATIONS
from .formats import read
from .measured import Measured, join
from .render import WIDTH, as_html, as_text, compare, drawn, telemetry_column
from .slope import Slope, slope

__all__ = [
    "EXPLANATIONS",
    "WIDTH",
    "Bill",
    "Measured",
    "Slope",
    "as_html",
    "as_text",
    "bill",
    "compare",
    "drawn",
    "join",
    "read",
    "slope",
    "telemetry_column",
]
