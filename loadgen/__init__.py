"""Drives an OpenAI-compatible endpoint and shows what happened. Imports no service."""
