"""Methods of decoding over a pipeline, by their letters."""
