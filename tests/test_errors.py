"""What an error of the lab shows."""

from __future__ import annotations

from yolotrt_lab.errors import SettingsError


def test_a_notebook_shows_the_message_and_the_fix_without_a_traceback():
    error = SettingsError("a period of 0 us", fix="use a positive period")
    assert error._render_traceback_() == ["SettingsError: a period of 0 us\nFix: use a positive period"]
