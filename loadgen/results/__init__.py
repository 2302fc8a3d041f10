"""Result files: written, read back and compared."""
