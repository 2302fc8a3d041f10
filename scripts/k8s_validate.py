"""`make k8s-validate`: renders every overlay and the load generator's job; published schemas and a linter judge them.

    python3 scripts/k8s_validate.py [--kubernetes 1.34]

Needs kubectl (for `kubectl kustomize`; no cluster is asked) and this repository's environment. The validators go into
an environment of their own, .outrider/k8s, since nothing else needs them.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".outrider" / "k8s"
PACKAGES = ("kubernetes-validate==1.37.0", "checkov==3.3.30")
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/edge", "loadgen")
# What the linter finds that is so on purpose, and why.
ACCEPTED = {
    "CKV_K8S_11": "no CPU limits: throttling would hold up a whole batch for one process",
    "CKV_K8S_43": "no digests: images are built by whoever deploys, a release names them by digest",
    "CKV_K8S_15": "images are built where they run and may be in no registry: pulled if not present",
    "CKV2_K8S_6": "network policies are not part of this base yet",
}


def main():
    """All overlays; exits 1 when anything is wrong with one of them."""
    parser = argparse.ArgumentParser(description="Validate the Kubernetes overlays.")
    parser.add_argument("--kubernetes", default="1.34", help="version of the schemas")
    args = parser.parse_args()
    if not shutil.which("kubectl"):
        sys.exit("k8s-validate: no kubectl on the path (https://kubernetes.io/docs/tasks/tools/)")
    install()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for overlay in OVERLAYS:
            rendered = Path(folder) / f"{Path(overlay).name}.yaml"
            rendered.write_text(render(Path(folder), overlay))
            wrong += check(overlay, rendered, args.kubernetes)
    sys.exit(1 if wrong else 0)


def install():
    """The validators, once."""
    if not (TOOLS / "bin" / "checkov").exists():
        print("making .outrider/k8s with", *PACKAGES, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", TOOLS], check=True)
        subprocess.run([TOOLS / "bin" / "pip", "install", "-q", *PACKAGES], check=True)


def render(folder, overlay):
    """An overlay as it would be applied, with passwords of its own for the secrets. Exits when it does not render."""
    copy = folder / "k8s"
    if not copy.exists():
        shutil.copytree(ROOT / "k8s", copy, ignore=shutil.ignore_patterns("access"))
        access = copy / "base" / "access"
        outrider = ROOT / ".venv" / "bin" / "outrider"
        subprocess.run([outrider, "devices", "prepare", "--access", access], check=True)
        (access / "gateway" / "api-keys").write_text("a key\n")
    command = ["kubectl", "kustomize", copy / overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"k8s-validate: {overlay} does not render: {done.stderr.strip()}")
    return done.stdout


def check(overlay, rendered, version):
    """Whether something is wrong with it, told line by line."""
    command = [TOOLS / "bin" / "kubernetes-validate", "--strict", "-k", version, rendered]
    schemas = subprocess.run(command, capture_output=True, text=True, check=False)
    command = [
        TOOLS / "bin" / "checkov",
        "-f",
        rendered,
        "--framework",
        "kubernetes",
        "-o",
        "json",
        "--quiet",
    ]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found = [
        f"{failed['check_id']} {failed['check_name']}: {failed['resource']}"
        for failed in report["results"]["failed_checks"]
        if failed["check_id"] not in ACCEPTED
    ]
    objects = rendered.read_text().count("\nkind: ")
    print(
        f"{overlay}: {objects} objects, schemas of {version} {'hold' if schemas.returncode == 0 else 'DO NOT HOLD'}, "
        f"linter: {report['summary']['passed']} passed, {len(found)} failed, "
        f"{report['summary']['failed'] - len(found)} accepted"
    )
    if schemas.returncode:
        print(schemas.stdout.strip(), schemas.stderr.strip())
    for line in found:
        print(" ", line)
    return bool(found) or schemas.returncode != 0


if __name__ == "__main__":
    main()
