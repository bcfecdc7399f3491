"""`make demo`: a Socket.IO chat over wss through Sluice, embedded, until Ctrl-C.

Starts two replicas of the chat and a web page as backends, makes a certificate for *.localhost names, writes the endpoints and
the certificate beside the example's manifests (in generated/), and starts `sluice standalone` on the folder.
"""

import base64
import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOOLS = Path(__file__).resolve().parent
EXAMPLE = TOOLS.parent / "manifests" / "examples" / "chat"

READY_SECONDS = 20.0


class DemoError(Exception):
    """The demo cannot start; the message says why and what to do."""


def make_certificate() -> tuple[bytes, bytes]:
    """Make a self-signed certificate for *.localhost and localhost; return chain and key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own: a client that trusts several of them looks the issuer up by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Sluice demo {serial:x}"[:64])])
    hosts = [x509.DNSName(host) for host in ("chat.localhost", "*.localhost", "localhost")]
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(hosts), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def write_whole(path: Path, text: str, *, secret: bool = False) -> None:
    """Replace a file in one step, so that no reader sees half of it."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o600 if secret else 0o644)
    Path(file.name).replace(path)


def write_secret(folder: Path, chain: bytes, key: bytes) -> None:
    """Write the Secret that the example's route names."""
    text = f"""apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: chat-tls}}
data:
  tls.crt: {base64.b64encode(chain).decode()}
  tls.key: {base64.b64encode(key).decode()}
"""
    write_whole(folder / "generated" / "secret.yaml", text, secret=True)


def write_endpoints(folder: Path, ports: dict[str, int]) -> None:
    """Write one EndpointSlice per Service."""
    write_whole(
        folder / "generated" / "endpoints.yaml",
        "---\n".join(
            f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
"""
            for service, port in ports.items()
        ),
    )


def _start_backend(stack: contextlib.ExitStack, script: str, *args: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, str(TOOLS / script), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stack.callback(end, process)
    assert process.stdout is not None  # noqa: S101  a pipe was asked for
    line = process.stdout.readline()
    if not line.strip().isdigit():
        raise DemoError(f"{script} did not start.")
    return process, int(line)


def end(process: subprocess.Popen[str]) -> None:
    """End a process that we started, by force if it takes longer than a drain may, or somebody is not willing to wait."""
    process.terminate()
    try:
        process.wait(60)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def backends() -> Iterator[dict[str, int]]:
    """Run two replicas of the chat and the page; give Service name to port."""
    with contextlib.ExitStack() as stack:
        replicas = [_start_backend(stack, "chat_backend.py", str(number)) for number in range(2)]
        for number, (process, _) in enumerate(replicas):
            assert process.stdin is not None  # noqa: S101  a pipe was asked for
            peers = [f"http://127.0.0.1:{port}" for other, (_, port) in enumerate(replicas) if other != number]
            process.stdin.write(" ".join(peers) + "\n")
            process.stdin.flush()
        _, web = _start_backend(stack, "web_backend.py")
        yield {"chat-0": replicas[0][1], "chat-1": replicas[1][1], "web": web}


def await_ready(process: subprocess.Popen[str], admin: str) -> None:
    """Wait until the first configuration is applied by every worker."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{admin}/readyz", timeout=1):
            return
        time.sleep(0.02)
    raise DemoError("Sluice was not ready in time; its messages stand above.")


@contextlib.contextmanager
def sluice(folder: Path, arguments: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `sluice standalone` on a folder; give the process and the addresses that it listens on."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "controller.cli", "standalone", str(folder), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101  a pipe was asked for
        for line in process.stdout:
            if line.startswith("listening "):
                listening = dict(part.split("=", 1) for part in line.split()[1:])
                await_ready(process, listening["admin"])
                yield process, listening
                return
        raise DemoError("Sluice did not start; its message stands above.")
    finally:
        end(process)


def run() -> int:
    """Start everything, say where it is, wait for Ctrl-C, end everything."""
    with backends() as ports:
        chain, key = make_certificate()
        write_secret(EXAMPLE, chain, key)
        write_endpoints(EXAMPLE, ports)
        write_whole(EXAMPLE / "generated" / "certificate.pem", chain.decode())
        commands = (EXAMPLE / "generated" / "admin.sock").relative_to(Path.cwd())
        with sluice(EXAMPLE, ["--admin-socket", str(commands), *sys.argv[1:]]) as (process, listening):
            https = listening["https"].rsplit(":", 1)[1]
            trusted = (EXAMPLE / "generated" / "certificate.pem").relative_to(Path.cwd())
            admin = f"http://{listening['admin']}"
            print(
                f"""
Sluice is running with the objects in {EXAMPLE.relative_to(Path.cwd())}.

  page      https://chat.localhost:{https}/      (?replica=0 or ?replica=1 picks one)
  wss       wss://chat.localhost:{https}/socket.io/?EIO=4&transport=websocket
  metrics   {admin}/metrics
  routes    {admin}/routes      problems  {admin}/problems
  sockets   {os.path.relpath(Path(sys.executable).with_name("sluice"))} sockets --admin-socket {commands}

The certificate is made for this run. A browser asks once whether to go on; to trust it instead:
  curl --cacert {trusted} --resolve chat.localhost:{https}:127.0.0.1 https://chat.localhost:{https}/
A client that cannot resolve chat.localhost needs the address 127.0.0.1 beside the URL. In Python:
  websockets.connect(URL, host="127.0.0.1", ssl=ssl.create_default_context(cafile="{trusted}"))
Edit {(EXAMPLE / "route.yaml").relative_to(Path.cwd())} while a chat is open: the route changes, the chat stays.
What is wrong with an object is told at /problems, and by `sluice lint`.
Ctrl-C ends everything: open chats are closed within 30 s. A second Ctrl-C does not wait for them.
""",
                flush=True,
            )
            assert process.stdout is not None  # noqa: S101  a pipe was asked for
            for line in process.stdout:
                print(line, end="", flush=True)
            return process.wait()


def main() -> int:
    """Run the demo; return the exit code."""
    os.chdir(TOOLS.parent)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        return run()
    except KeyboardInterrupt:
        print("\nEnded.")
        return 0
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
