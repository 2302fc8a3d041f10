"""Exact plans: all plans of few users or classes, all lengths of given batches; and a proven upper bound."""
