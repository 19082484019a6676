"""Ways out: one module per kind of receiver, each with ``send(message, receiver, deadline_s) -> SendResult``."""
