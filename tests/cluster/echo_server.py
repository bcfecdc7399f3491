"""Runs in a pod: answers every request with JSON of the pod and of the request. Usage: echo_server.py PORT."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.dumps(
            {
                "service": os.environ["SERVICE"],
                "pod": os.environ["POD_IP"],
                "method": self.command,
                "path": self.path,
                "proto": self.request_version,
                "host": self.headers["Host"],
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": self.rfile.read(size).decode(),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  the names that the server looks for


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Echo).serve_forever()
