"""Ask the release's Service for something that no route has: the proxy itself must answer.

What was installed a moment ago is not known everywhere at once: a name that does not resolve and a connection that brings no answer
are said, and tried again for a while. An answer is final, whoever gave it. Usage: answer.py HOST PORT SECONDS
"""

import http.client
import sys
import time

host, port, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
began = time.monotonic()


def ask(method: str, target: str) -> tuple[int, str]:
    """Return the status and the text of an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request(method, target, headers={"Host": "helm-test.invalid"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace").strip()


def insist(method: str, target: str) -> tuple[int, str]:
    """Return the first answer, or end with what was there instead."""
    said = ""
    while True:
        try:
            return ask(method, target)
        except (OSError, http.client.HTTPException) as error:
            seen = f"{type(error).__name__}: {error}"
        passed = time.monotonic() - began
        if passed > patience:
            sys.exit(f"{method} {target} was not answered by {host}:{port} within {patience:.0f} s; the last was {seen}")
        if seen != said:
            print(f"After {passed:.1f} s {method} {target} has no answer yet from {host}:{port}: {seen}", flush=True)
            said = seen
        time.sleep(0.5)


status, _ = insist("OPTIONS", "*")
if status != 204:
    sys.exit(f"OPTIONS * was answered with {status}; 204, the proxy's own answer, was expected.")
status, text = insist("GET", "/")
if status == 404 and text == "No route of this proxy serves this host and path.":
    print("The proxy answers: no route serves the host helm-test.invalid, as it should be.")
elif status == 404:
    sys.exit(f"GET / was answered with 404 by something else: {text[:200]}")
else:
    print(f"The proxy answers, and a route without a host serves helm-test.invalid: {status}.")
