"""Training of the lab's own detector: `python -m scripts.train_detector OUT`, from the repository's root.

Only this needs PyTorch. README.md beside this file names the requirements and the sources of the methods.
"""
