"""Configuration of the programs of a one-node Kubernetes: their files and command lines, for one state folder.

Only `write` does I/O. A value that differs from a program's default has its reason beside it; the node itself is cluster_node.py.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

import trustme

NODE = "node"
NODE_ADDRESS = "10.99.0.1"
"""Address of the node on its own loopback, for programs and pods inside; from outside the address of its link counts."""
API_PORT = 6443
PODS, SERVICES, API_SERVICE = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.1"
DNS_READY = 8181
PAUSE = "localhost/pause:1"
USERS: Mapping[str, tuple[str, str]] = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "dns": ("coredns", "system:masters"),
}
"""Accounts of the API server: name of the kubeconfig -> user and group."""

CONTAINERD = """\
version = 2
root = "{state}/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE no score can be lowered: runc would fail each pod with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/cni"
"""
COREFILE = """\
. {{
    bind {address}
    errors
    ready {address}:{ready}
    cache 5
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {state}/dns.kubeconfig
    }}
}}
"""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""Every request that a pod makes with its token is in audit.log, and nothing else."""


def kubeconfig(authority: str, server: str, token: str) -> dict[str, object]:
    """Return a kubeconfig of one user and one cluster; `authority` is the path of the certificate of the API server's CA."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NODE, "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": NODE, "user": {"token": token}}],
        "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": NODE}}],
        "current-context": NODE,
    }


def kubelet(state: Path) -> dict[str, object]:
    """Return the configuration of the kubelet."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": f"{state}/ca.crt"}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "oomScoreAdj": 0,
        "failSwapOn": False,
        # The disk and the memory of the machine are not the node's: nothing may be evicted because others fill them.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"),
        # What was imported stays: it cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE_ADDRESS],
        "volumePluginDir": f"{state}/plugins",
    }


def kube_proxy(state: Path) -> dict[str, object]:
    """Return the configuration of kube-proxy: iptables, so that NodePorts answer at every address of the node."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": NODE,
        "oomScoreAdj": 0,
        # The table of connections belongs to the machine; its limits are not the node's to change.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        # Changes of endpoints are in the rules at once, not after a second.
        "iptables": {"minSyncPeriod": "0s"},
        "clientConnection": {"kubeconfig": f"{state}/proxy.kubeconfig"},
    }


def cni() -> dict[str, object]:
    """Return the network of the pods: one veth pair each, addresses from a file."""
    ipam = {"type": "host-local", "subnet": PODS, "dataDir": "/run/cni", "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def commands(state: Path, programs: Mapping[str, Path]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the command lines of what starts first, and of what starts when the API server answers."""
    etcd, client = "http://127.0.0.1:2379", f"{state}/{{}}.kubeconfig"
    first = [
        [
            str(programs["etcd"]),
            f"--data-dir={state}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        [
            str(programs["kube-apiserver"]),
            f"--etcd-servers={etcd}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={state}/api.crt",
            f"--tls-private-key-file={state}/api.key",
            f"--token-auth-file={state}/tokens",
            f"--kubelet-certificate-authority={state}/ca.crt",
            f"--kubelet-client-certificate={state}/api.crt",
            f"--kubelet-client-key={state}/api.key",
            # Else exec and logs look the node's name up.
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={state}/accounts.key",
            f"--service-account-key-file={state}/accounts.key",
            f"--audit-policy-file={state}/audit.yaml",
            f"--audit-log-path={state}/audit.log",
            "--allow-privileged",
        ],
        ["/usr/bin/containerd", f"--config={state}/containerd.toml", "--log-level=warn"],
    ]
    then = [
        [
            str(programs["kube-controller-manager"]),
            "--kubeconfig=" + client.format("controller-manager"),
            f"--root-ca-file={state}/ca.crt",
            f"--service-account-private-key-file={state}/accounts.key",
            "--leader-elect=false",
            # With the default of 20 a second the default service account comes seconds late.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ],
        [str(programs["kube-scheduler"]), "--kubeconfig=" + client.format("scheduler"), "--leader-elect=false"],
        [
            str(programs["kubelet"]),
            f"--config={state}/kubelet.yaml",
            "--kubeconfig=" + client.format("kubelet"),
            f"--root-dir={state}/kubelet",
            f"--cert-dir={state}/kubelet-certificates",
            f"--tls-cert-file={state}/kubelet.crt",
            f"--tls-private-key-file={state}/kubelet.key",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
        ],
        [str(programs["kube-proxy"]), f"--config={state}/kube-proxy.yaml"],
        [str(programs["coredns"]), f"-conf={state}/Corefile"],
    ]
    return first, then


def write(state: Path, address: str) -> str:
    """Write every file that `commands` names, and `admin.kubeconfig` for `address`; return the administrator's token."""
    authority = trustme.CA()
    issued = {
        # Also the client that asks the kubelet for logs and exec; it knows a client by the common name.
        "api": authority.issue_cert(NODE_ADDRESS, API_SERVICE, address, "kubernetes.default.svc", common_name="kube-apiserver"),
        "kubelet": authority.issue_cert(NODE_ADDRESS, NODE),
        "accounts": authority.issue_cert("accounts.invalid"),
    }
    files = {"ca.crt": authority.cert_pem.bytes().decode()}
    for name, certificate in issued.items():
        files[f"{name}.crt"] = "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems)
        files[f"{name}.key"] = certificate.private_key_pem.bytes().decode()
    tokens = {name: secrets.token_hex(16) for name in USERS}
    files["tokens"] = "".join(f'{tokens[name]},{user},{user},"{group}"\n' for name, (user, group) in USERS.items())
    documents = {
        "kubelet.yaml": kubelet(state),
        "kube-proxy.yaml": kube_proxy(state),
        "audit.yaml": AUDIT,
        "cni/pods.conflist": cni(),
    }
    for name, token in tokens.items():
        # The link's address is the node's own too: the administrator's file serves inside and outside.
        server = address if name == "admin" else NODE_ADDRESS
        documents[f"{name}.kubeconfig"] = kubeconfig(f"{state}/ca.crt", f"https://{server}:{API_PORT}", token)
    files |= {name: json.dumps(document) for name, document in documents.items()}
    files["containerd.toml"] = CONTAINERD.format(state=state, pause=PAUSE)
    files["Corefile"] = COREFILE.format(state=state, address=NODE_ADDRESS, ready=DNS_READY)
    files["hosts"] = f"127.0.0.1 localhost\n{NODE_ADDRESS} {NODE}\n"
    files["resolv.conf"] = ""
    for name, text in files.items():
        path = state / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tokens["admin"]
