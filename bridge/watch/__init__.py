"""Observers: they are given figures and records; the core knows none of them."""
