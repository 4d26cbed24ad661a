"""What the tests need of the world: a real broker, a real receiver, and the real command."""
