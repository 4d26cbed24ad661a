"""mqtthook as a service of systemd: what has to be so on a machine, and how it comes to be."""
