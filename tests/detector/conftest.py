import pytest

from yolotrt_lab.detector import detect


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(detect, "has_gpu", lambda: False)
