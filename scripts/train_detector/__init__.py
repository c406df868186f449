"""Training of the lab's own detector: `python -m scripts.train_detector OUT`, from the repository's root.

PyTorch is needed here and nowhere else. README.md beside this file says what it takes and where the methods come from.
"""
