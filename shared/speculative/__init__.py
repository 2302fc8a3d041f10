"""The acceptance rule and its noise. Pure; imports only NumPy, and `torch_rule` also torch.

So the verifier's benchmark runs on a machine that has no other package.
"""
