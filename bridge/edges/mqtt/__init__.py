"""The edge to the broker: the only room that imports paho."""
