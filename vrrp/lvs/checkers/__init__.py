"""One file per kind of health check; each takes its settings and answers passed or failed."""
