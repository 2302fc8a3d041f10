"""Shared by all commands: option types, errors, progress reports and exit codes."""
