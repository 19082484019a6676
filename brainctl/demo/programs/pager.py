"""The pager: an HTTP receiver on the management network that logs every alert it is given.

Arguments: address, port. Writes ``{"t": ns, "path": "/…", "body": {…}}`` per request to standard output; answers 200 (or 503 while it was
told ``down`` on standard input, until ``up``).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    """Takes POSTs."""

    up = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Alerts are the log."""

    def do_POST(self) -> None:
        """One alert."""
        data = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1 << 20))
        if not Receiver.up:
            self.send_response(503)
            self.end_headers()
            return
        try:
            body: object = json.loads(data)
        except ValueError:
            body = data.decode(errors="replace")
        sys.stdout.write(json.dumps({"t": time.time_ns(), "path": self.path, "from": self.client_address[0], "body": body}) + "\n")
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        answer = b'{"status": "success"}'
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def main() -> int:
    """Serve until standard input ends."""
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Receiver)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        Receiver.up = line.strip() != "down"
    return 0


if __name__ == "__main__":
    sys.exit(main())
