"""Models on this machine: their sources and hashes, and how targets and drafts are made from downloads.

Used by `outrider models ...` (commands.py) and `python -m cli.models ...`. Layout of a model's folder:
source.gguf (as downloaded), draft.gguf (llama.cpp reads it), target/ (transformers reads it), stamp.json.
"""
