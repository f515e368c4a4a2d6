"""Prompts, one per risk profile."""
