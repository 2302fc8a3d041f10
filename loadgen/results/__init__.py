"""Result files: writing, reading and comparison."""
