"""The kernel's IPVS table: our own attribute map, a blocking generic netlink socket, and translation to the pure model."""
