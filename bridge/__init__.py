"""mqtthook: a bridge between an MQTT broker and the web that loses nothing in silence."""

__version__ = "0.1.0"
