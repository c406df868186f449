"""How well a detector sees: average precision over held-out frames of the synthetic scene, whose boxes are known.

python -m scripts.evaluation                                        the lab's own detector, on 2,000 frames
python -m scripts.evaluation --frames 200 --engine onnxruntime      the same on the CPU, a tenth of the frames
python -m scripts.evaluation mine.onnx --json > mine.json           a model trained on the scene's parts, for scripts

Run from the repository's root, with the extra `test` installed.
"""
