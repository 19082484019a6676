"""Programs of the laboratory. Each is run by its path, imports only the standard library, and shares no code with the daemons."""
