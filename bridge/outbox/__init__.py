"""The outbox: what can't be finished now waits here, survives, and is retried."""
