"""The demo: a small world around one real bridge, in one process.

It is the outside world, not a part of the bridge: it may import the libraries that otherwise one edge alone
imports, and it knows the bridge by its config, its topics, its hook and its status only. Nothing imports it but
its own command.
"""
