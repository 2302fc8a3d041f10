"""The acceptance rule and its noise: pure, NumPy only; `torch_rule` is the one module that needs torch.

Nothing here imports anything but NumPy (and torch in that one module), so that the verifier's
benchmark runs on a machine that has nothing else.
"""
