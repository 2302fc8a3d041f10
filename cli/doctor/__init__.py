"""`outrider doctor`: checks the installation, and measures whether speculation pays on this machine."""
