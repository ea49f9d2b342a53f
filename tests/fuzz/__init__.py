"""Hostile and damaged media, made while testing: `python -m tests.fuzz` reads a corpus and then mutants of it through the sandbox."""
