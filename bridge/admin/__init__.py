"""The admin side: health, metrics and the queue, over HTTP."""
