"""The settings: composed, checked all at once, and frozen."""
