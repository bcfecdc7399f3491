"""Ask the release's Service for something that no route has: the proxy itself must answer."""

import http.client
import sys

host, port = sys.argv[1], int(sys.argv[2])


def ask(method: str, target: str) -> tuple[int, str]:
    """Return the status and the text of an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request(method, target, headers={"Host": "helm-test.invalid"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace").strip()


status, _ = ask("OPTIONS", "*")
if status != 204:
    sys.exit(f"OPTIONS * was answered with {status}; 204, the proxy's own answer, was expected.")
status, text = ask("GET", "/")
if status == 404 and text == "No route of this proxy serves this host and path.":
    print("The proxy answers: no route serves the host helm-test.invalid, as it should be.")
elif status == 404:
    sys.exit(f"GET / was answered with 404 by something else: {text[:200]}")
else:
    print(f"The proxy answers, and a route without a host serves helm-test.invalid: {status}.")
