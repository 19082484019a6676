"""PURE: the lease on a shared disk: what a slot holds, and who may take the turn."""
