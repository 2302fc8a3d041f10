"""`make k8s-validate`: renders every overlay and the load generator's job, and checks them with schemas and a linter.

    python3 scripts/k8s_validate.py [--kubernetes 1.34]

Needs kubectl (only for `kubectl kustomize`, without a cluster) and this repository's environment. The validators are
installed in a separate environment, .outrider/k8s, since nothing else needs them.
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
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/edge", "overlays/pipeline", "loadgen")
# Findings of the linter that are intended, with reasons.
ACCEPTED = {
    "CKV_K8S_11": "no CPU limits: throttling one process would delay whole batches",
    "CKV_K8S_43": "no digests: users build the images themselves",
    "CKV_K8S_15": "pulled only if not present: images are built where they run and may be in no registry",
    "CKV2_K8S_6": "network policies are not part of this base yet",
}


def main():
    """Check all overlays. Exits with 1 when one has an error."""
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
    """Install the validators, unless they are installed."""
    if not (TOOLS / "bin" / "checkov").exists():
        print("creating .outrider/k8s with", *PACKAGES, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", TOOLS], check=True)
        subprocess.run([TOOLS / "bin" / "pip", "install", "-q", *PACKAGES], check=True)


def render(folder, overlay):
    """YAML of an overlay as it would be applied, with generated secrets. Exits when it does not render."""
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
    """Check a rendered overlay and print the findings. Returns whether there are any that are not accepted."""
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
    findings = [
        f"{failed['check_id']} {failed['check_name']}: {failed['resource']}"
        for failed in report["results"]["failed_checks"]
        if failed["check_id"] not in ACCEPTED
    ]
    objects = rendered.read_text().count("\nkind: ")
    print(
        f"{overlay}: {objects} objects, schemas of {version} {'hold' if schemas.returncode == 0 else 'DO NOT HOLD'}, "
        f"linter: {report['summary']['passed']} passed, {len(findings)} failed, "
        f"{report['summary']['failed'] - len(findings)} accepted"
    )
    if schemas.returncode:
        print(schemas.stdout.strip(), schemas.stderr.strip())
    for line in findings:
        print(" ", line)
    return bool(findings) or schemas.returncode != 0


if __name__ == "__main__":
    main()
