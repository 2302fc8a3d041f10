"""The models on this machine: where they come from, what their files must hash to, how targets and drafts are made.

Used by `outrider models ...` (commands.py) and `python -m cli.models ...`. Layout of a model's folder:
source.gguf (as downloaded), draft.gguf (llama.cpp reads it), target/ (transformers reads it), stamp.json.
"""
