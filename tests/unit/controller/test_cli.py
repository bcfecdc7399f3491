"""The commands as a user types them."""

import datetime as dt
import json
import shutil
import subprocess
import sys
from pathlib import Path

import trustme
import yaml
from click.testing import CliRunner

from controller.cli import main

EXAMPLE = Path(__file__).parents[3] / "manifests" / "examples" / "chat"
SECRET_PROBLEM = 'WsRoute default/chat: spec.tls.secretName: Secret "default/chat-tls" of type kubernetes.io/tls was not found'


def test_lint_prints_one_line_per_problem_and_exits_with_one(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("generated"))
    result = CliRunner().invoke(main, ["lint", str(folder)], catch_exceptions=False)

    assert result.exit_code == 1
    assert result.stdout.startswith(SECRET_PROBLEM)


def test_lint_in_json_names_object_field_and_reason(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: sluice.dev/v1alpha1\nkind: WsRoute\nmetadata: {name: a, namespace: n}\nspec: {rules: []}\n"
    )
    result = CliRunner().invoke(main, ["lint", str(tmp_path), "--format", "json"], catch_exceptions=False)

    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {
            "kind": "WsRoute",
            "namespace": "n",
            "name": "a",
            "reason": "InvalidSpec",
            "field": "spec.rules",
            "message": "spec.rules: 0 were found, at least 1 would be accepted.",
            "note": False,
        }
    ]


def test_lint_notes_a_secret_that_nobody_names_and_exits_with_zero(tmp_path: Path) -> None:
    """Of the same Secret it is a problem for whom it is the default certificate."""
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "s", "namespace": "n"}}
    (tmp_path / "secret.json").write_text(json.dumps(secret))
    sentence = "Secret n/s: data[tls.crt]: nothing that can be read was found, PEM in base64 would be accepted.\n"

    plain = CliRunner().invoke(main, ["lint", str(tmp_path)], catch_exceptions=False)
    rows = CliRunner().invoke(main, ["lint", str(tmp_path), "--format", "json"], catch_exceptions=False)
    named = CliRunner().invoke(main, ["lint", str(tmp_path), "--default-certificate", "n/s"], catch_exceptions=False)

    assert (plain.exit_code, plain.stdout) == (0, f"note: {sentence}")
    assert (rows.exit_code, [row["note"] for row in json.loads(rows.stdout)]) == (0, [True])
    assert (named.exit_code, named.stdout.startswith(sentence), "note" in named.stdout) == (1, True, False)


def test_lint_says_what_makes_the_services_of_a_first_folder_answer_503(tmp_path: Path) -> None:
    """A port of another name is wrong anywhere; what has no endpoints may get them in a cluster, so it is a note."""
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: chat}\nspec: {ports: [{name: http, port: 80}]}\n---\n"
    rule = "{host: a.localhost, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: chat, port: {number: 80}}}}]}}"
    ingress = f"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: a}}\nspec: {{rules: [{rule}]}}\n---\n"
    endpoints = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: chat-1, labels: {LABEL: chat}}\n"
    endpoints += "addressType: IPv4\nports: [{name: http, port: 3000}]\nendpoints: [{addresses: [127.0.0.1]}]\n"
    right = (service + ingress + endpoints).replace("LABEL", "kubernetes.io/service-name")

    def lint(text: str) -> tuple[int, str]:
        (tmp_path / "a.yaml").write_text(text)
        found = CliRunner().invoke(main, ["lint", str(tmp_path)], catch_exceptions=False)
        return found.exit_code, found.stdout

    told = "Ingress default/a: spec.rules[0].http.paths[0].backend.service: "
    assert lint(right) == (0, "")
    assert lint(service + ingress) == (0, "")  # for a cluster, which makes EndpointSlices
    code, said = lint((service + ingress + endpoints).replace("LABEL", "app"))
    assert (code, said.startswith(f'note: {told}Service "default/chat" has no endpoint that is ready')) == (0, True)
    assert 'EndpointSlice "default/chat-1" has no such label' in said
    code, said = lint(right.replace("name: http, port: 3000", "port: 3000"))
    assert (code, said.startswith(f'{told}Service "default/chat" has endpoints in EndpointSlice "default/chat-1"')) == (1, True)
    code, said = lint(right.replace("name: http, port: 3000", "name: web, port: 3000"))
    assert (code, 'as the port is named "web" there, and port 80 of the Service is named "http"' in said) == (1, True)


def test_lint_says_that_a_certificate_has_ended_and_exits_with_one(tmp_path: Path) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    issued = trustme.CA().issue_cert("a.localhost", not_before=yesterday - dt.timedelta(days=9), not_after=yesterday)
    data = {"tls.crt": issued.cert_chain_pems[0].bytes().decode(), "tls.key": issued.private_key_pem.bytes().decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "s"}, "stringData": data}
    (tmp_path / "secret.json").write_text(json.dumps(secret))
    found = CliRunner().invoke(main, ["lint", str(tmp_path), "--default-certificate", "default/s"], catch_exceptions=False)

    message = f'the certificate of Secret "default/s" ended on {yesterday:%Y-%m-%dT%H:%M:%SZ} and is served all the same'
    assert (found.exit_code, message in found.stdout) == (1, True)


def test_lint_exits_with_zero_without_problems_and_two_where_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("a: [")

    assert CliRunner().invoke(main, ["lint", str(tmp_path / "empty")]).exit_code == 0
    assert CliRunner().invoke(main, ["lint", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(main, ["lint", str(tmp_path / "none")]).exit_code == 2


def test_translate_prints_yaml_without_key_material(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("generated"))
    from demo import make_certificate, write_secret

    chain, key = make_certificate()
    write_secret(folder, chain, key)
    result = CliRunner().invoke(main, ["translate", str(folder)], catch_exceptions=False)
    config = yaml.safe_load(result.stdout)

    assert result.exit_code == 0
    assert config["certificates"]["default/chat-tls"]["key"] == f"<redacted {len(key)} bytes>"
    assert set(config["routes"]) == {f"wsroute/default/chat/{rule}" for rule in ("replica-0", "replica-1", "any", "page")}


def test_crd_in_the_package_is_the_one_in_manifests() -> None:
    root = Path(__file__).parents[3]

    assert (root / "controller/resources/reading/wsroute-crd.yaml").read_text() == (
        root / "manifests/crds/sluice.dev_wsroutes.yaml"
    ).read_text()


def test_help_of_standalone_prints_the_settings_of_both_programs() -> None:
    result = CliRunner().invoke(main, ["standalone", "--help"], catch_exceptions=False)

    assert "--default-certificate" in result.stdout
    assert "SLUICE_DRAIN_TIME" in result.stdout


def test_lint_says_how_much_it_checked_and_which_objects_are_of_nobody_here(tmp_path: Path) -> None:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {"ingressClassName": "nginx", "rules": [rule]},
    }
    (tmp_path / "ingress.json").write_text(json.dumps(ingress))

    result = CliRunner().invoke(main, ["lint", str(tmp_path)], catch_exceptions=False)

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "0 Ingresses and WsRoutes were checked. 1 would not be served: no IngressClass of ours is named nginx.\n"
    )


def test_lint_says_which_version_of_a_route_is_read(tmp_path: Path) -> None:
    (tmp_path / "route.json").write_text(
        json.dumps({"apiVersion": "sluice.dev/v1", "kind": "WsRoute", "metadata": {"name": "chat"}})
    )

    result = CliRunner().invoke(main, ["lint", str(tmp_path)], catch_exceptions=False)

    assert (result.exit_code, result.stderr) == (1, "1 Ingress or WsRoute was checked.\n")
    assert result.stdout == 'WsRoute default/chat: apiVersion: "sluice.dev/v1" was found, sluice.dev/v1alpha1 would be accepted.\n'


def test_errors_of_options_that_are_handed_on_name_the_program_that_has_them(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "controller.cli", "standalone", str(tmp_path), "--drain-tim", "5s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "Usage: sluice-proxy " in done.stderr
    assert "python -m" not in done.stderr
