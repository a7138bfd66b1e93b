"""Loads and unloads: from a wanted model to an available one, and back."""
