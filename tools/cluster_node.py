"""A Kubernetes of one node on this machine: API server, kubelet, containerd, all in namespaces of their own; nothing of it stays.

Needs root, cgroups of version 1 and the Debian packages of install-cluster-packages. The machine reaches the API server and
NodePorts at `Node.address`, over a veth pair. What the programs are told is in cluster_config.py, what happens inside in
cluster_inside.py. Usage: cluster_node.py [IMAGE-ARCHIVE...] starts one, prints how to use it and ends it at Ctrl-C.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import cluster_cgroups
import cluster_config
from cluster_binaries import BuildError, MissingError, build, cache_folder
from cluster_images import write_busybox

PREFIX = "sluice-node-"
INSTALL = "install sluice charts/sluice --namespace sluice-system --create-namespace"
"""Values for Helm, as in the README."""
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")
PACKAGED = ("containerd", "containerd-shim-runc-v2", "runc", "ctr", "ip", "iptables", "conntrack", "nsenter", "unshare", "busybox")
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
LINKS = range(16, 160)
"""Third octet of the link's addresses in 169.254.0.0/16; 169 itself stays with the metadata services of clouds."""
READY_WITHIN = 120.0
"""Seconds from the start of the kubelet to a node that takes pods; 6 to 9 were seen on a machine that does nothing else."""


class NodeError(Exception):
    """A node did not start, or what it was asked for failed."""


def require() -> Mapping[str, Path]:
    """Return the programs of a node, built where they were not; raises `MissingError`."""
    if os.geteuid() != 0:
        raise MissingError("A node of Kubernetes needs root on this machine.")
    capable = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    if lacking := [name for name, bit in CAPABILITIES.items() if not int(capable.split()[1], 16) >> bit & 1]:
        raise MissingError(f"A node of Kubernetes needs {' and '.join(lacking)}.")
    if lacking := cluster_cgroups.missing():
        raise MissingError(f"A node of Kubernetes needs cgroups of version 1, and these are not mounted: {', '.join(lacking)}.")
    if lacking := [name for name in PACKAGED if shutil.which(name) is None]:
        raise MissingError(f"A node of Kubernetes needs {', '.join(lacking)}: run tools/install-cluster-packages.")
    if not Path("/usr/lib/cni/ptp").exists():
        raise MissingError("A node of Kubernetes needs containernetworking-plugins: run tools/install-cluster-packages.")
    try:
        return {name: build(name) for name in PROGRAMS}
    except BuildError as error:
        raise MissingError(f"A node of Kubernetes cannot be built: {error}.") from error


def _sweep() -> None:
    """Remove what nodes left whose owner was killed. An owner that lives holds the lock in its folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with (folder / "lock").open("w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cluster_cgroups.remove(folder.name)
            shutil.rmtree(folder)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Make or remove folders of nodes one at a time: one whose lock is not taken looks like one that was left."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "node.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def _remove(folder: Path) -> None:
    with _turn():
        shutil.rmtree(folder)


@contextlib.contextmanager
def _state() -> Iterator[Path]:
    """Make a folder for everything that the node writes, with its lock held until the folder is gone."""
    with contextlib.ExitStack() as stack:
        with _turn():
            _sweep()
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = stack.enter_context((folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            stack.callback(_remove, folder)
        yield folder


@contextlib.contextmanager
def _cgroups(name: str) -> Iterator[list[Path]]:
    """Make a cgroup of that name in each hierarchy; yields where a process enters."""
    try:
        yield cluster_cgroups.make(name)
    finally:
        cluster_cgroups.remove(name)


@contextlib.contextmanager
def _link() -> Iterator[tuple[str, str, str]]:
    """Make a veth pair; yields the name of the node's end, the machine's address and the node's."""
    for octet in LINKS:
        name, peer = f"sluice{octet}", f"sluice{octet}n"
        command = ["ip", "link", "add", name, "type", "veth", "peer", "name", peer]
        # The name is the claim: of two nodes that start at once, one gets it.
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            break
    else:
        raise NodeError(f"None of the links sluice{LINKS.start} to sluice{LINKS.stop - 1} is free.")
    try:
        mine, theirs = f"169.254.{octet}.1", f"169.254.{octet}.2"
        subprocess.run(["ip", "address", "add", f"{mine}/30", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield peer, mine, theirs
    finally:
        # It may be gone already: one end goes with the namespace of the other.
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


@contextlib.contextmanager
def _namespaces(state: Path, entrances: Sequence[Path]) -> Iterator[subprocess.Popen[str]]:
    """Start the first process of the node in namespaces of its own; kill it at the end, and all others with it."""
    enter = "".join(f"echo $$ >{path} && " for path in entrances)
    unshare = "exec unshare --mount --net --cgroup --pid --uts --ipc --fork --kill-child=KILL --mount-proc"
    inside = Path(__file__).with_name("cluster_inside.py")
    process = subprocess.Popen(
        ["sh", "-c", f'{enter}{unshare} "$@"', "sh", sys.executable, "-P", str(inside), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the owner, who ends the node in order.
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


class Node:
    """A running node. Use `start` as a context manager; nothing of the node is left when it ends."""

    def __init__(self, state: Path, first: int, address: str, gateway: str, token: str) -> None:
        self.address = address
        """Where this machine reaches the API server (port 6443) and NodePorts."""
        self.gateway = gateway
        """This machine's end of the link: where processes of the node reach what listens on this machine."""
        self.state = state
        """Logs of the programs (NAME.log), audit.log with every request made with a pod's token, and their settings."""
        self.first = first
        """Process id of the node's first process, for `nsenter -t`."""
        self.kubeconfig = state / "admin.kubeconfig"
        """For the administrator, from this machine as from inside."""
        self._token = token
        self._context = ssl.create_default_context(cafile=str(state / "ca.crt"))

    def get(self, path: str) -> Any:
        """Return what the API server has at a path, as the administrator sees it; raises `OSError`, of which `HTTPError` is one."""
        request = urllib.request.Request(f"https://{self.address}:{cluster_config.API_PORT}{path}")
        request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as answer:  # noqa: S310 - https
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def in_network(self, command: Sequence[str]) -> list[str]:
        """Return a command line that runs a program of this machine in the node's network; signals reach the program itself."""
        return ["nsenter", "-t", str(self.first), "--net", "--", *command]

    def run(
        self, command: Sequence[str], *, stdin: IO[bytes] | int = subprocess.DEVNULL, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program inside the node, in all its namespaces, to its end (seconds); raises `NodeError` with what it wrote."""
        whole = ["nsenter", "-t", str(self.first), "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--", *command]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(whole, env=environment, stdin=stdin, capture_output=True, timeout=timeout, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace")[-2000:]
            raise NodeError(f"{' '.join(command)} ended with {done.returncode} in the node: {said}")
        return done

    def import_image(self, archive: Path) -> None:
        """Make the images of a docker archive available to pods with `imagePullPolicy: Never` or `IfNotPresent`."""
        with archive.open("rb") as file:
            self.run(["ctr", "-n", "k8s.io", "images", "import", "-"], stdin=file)

    def until(self, what: str, holds: Callable[[], object], *, within: float = 60.0) -> None:
        """Wait until something holds; an `OSError`, as of what is not there yet, counts as no. Raises `NodeError` after a time."""
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(OSError):
                if holds():
                    return
            if time.monotonic() > deadline:
                raise NodeError(f"{what} was not so within {within:.0f} s.")
            time.sleep(0.05)

    def wait_ready(self) -> None:
        """Wait until the node takes pods: it is Ready, the default service account is there, names resolve."""

        def ready() -> bool:
            conditions = self.get(f"/api/v1/nodes/{cluster_config.NODE}")["status"]["conditions"]
            return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

        self.until("The node is Ready", ready, within=READY_WITHIN)
        self.until("The default service account is there", lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default"))
        look = [
            "busybox",
            "wget",
            "-q",
            "-O",
            "/dev/null",
            f"http://{cluster_config.NODE_ADDRESS}:{cluster_config.DNS_READY}/ready",
        ]
        self.until(
            "CoreDNS is ready", lambda: not subprocess.run(self.in_network(look), capture_output=True, check=False).returncode
        )


def _hear(process: subprocess.Popen[str], wanted: str, state: Path) -> None:
    """Read a line of the first process; raises `NodeError` with the end of the log of what ended if another was wanted."""
    line = process.stdout.readline().strip() if process.stdout else ""
    if line != wanted:
        log = state / f"{line.split(' ')[0]}.log"
        tail = "\n" + log.read_text(errors="replace")[-2000:] if log.is_file() else ""
        raise NodeError(f"The node ended: {line or 'its first process was killed'}{tail}")


@contextlib.contextmanager
def start() -> Iterator[Node]:
    """Start a node and end it; raises `MissingError` where this machine cannot, `NodeError` also if it ended by itself."""
    programs = require()
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(_state())
        peer, mine, theirs = stack.enter_context(_link())
        entrances = stack.enter_context(_cgroups(state.name))
        token = cluster_config.write(state, theirs)
        first, then = cluster_config.commands(state, programs)
        plan = {
            "cgroups": [(hierarchy.name, hierarchy.options) for hierarchy in cluster_cgroups.hierarchies()],
            "network": (cluster_config.NODE_ADDRESS, peer, f"{theirs}/30"),
            "api": f"https://{cluster_config.NODE_ADDRESS}:{cluster_config.API_PORT}/readyz",
            "first": first,
            "then": then,
        }
        (state / "plan.json").write_text(json.dumps(plan))
        process = stack.enter_context(_namespaces(state, entrances))
        _hear(process, "unshared", state)
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        subprocess.run(["ip", "link", "set", peer, "netns", str(pid)], check=True)
        if process.stdin is not None:
            process.stdin.write("linked\n")
            process.stdin.flush()
        _hear(process, "started", state)
        node = Node(state, pid, theirs, mine, token)
        node.import_image(write_busybox(state / "pause.tar", cluster_config.PAUSE, ["/bin/busybox", "sleep", "infinity"]))
        node.wait_ready()
        yield node
        # It says nothing more unless it ends.
        if process.stdout and select.select([process.stdout], [], [], 0)[0]:
            _hear(process, "", state)


def main(archives: list[str]) -> int:
    """Start a node with these images, until Ctrl-C or SIGTERM; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        began = time.monotonic()
        with start() as node:
            for archive in archives:
                node.import_image(Path(archive))
            print(f"Kubernetes {cluster_config.NODE} is ready after {time.monotonic() - began:.1f} s; Ctrl-C ends it.\n")
            print(f"  export KUBECONFIG={node.kubeconfig}")
            print(f"  {build('kubectl')} get pods -A")
            print(f"  {build('helm')} {INSTALL} --set service.type=NodePort")
            print(f"  NodePorts at {node.address}; in the node's network: nsenter -t {node.first} -n COMMAND")
            print(f"  images: nsenter -t {node.first} -n -m ctr -n k8s.io images import ARCHIVE", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except (MissingError, NodeError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
