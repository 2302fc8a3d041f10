"""A local stack with a real broker and fake services: small HTTP servers that the tests control."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cli.stack import stack as stack_module
from cli.stack.processes import Spec
from cli.stack.specs import StackOptions, specs
from cli.stack.stack import LocalStack, Ports

# Ready at once; /end/CODE ends it with that code.
SERVICE = """
import http.server, os

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/end/"):
            print("told to end", flush=True)
            os._exit(int(self.path.split("/")[2]))
        self.send_response(200)
        self.send_header("Outrider-Stack", os.environ["OUTRIDER_STACK"])
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", int(os.environ["OUTRIDER_HEALTH_PORT"])), Page).serve_forever()
"""


def python(code: str) -> tuple[str, ...]:
    """Command line of a small Python program that starts quickly."""
    return (sys.executable, "-I", "-S", "-c", code)


def fake_stack(
    monkeypatch: pytest.MonkeyPatch,
    state_dir: Path,
    programs: Mapping[str, str] | None = None,
    ports: Ports | None = None,
) -> LocalStack:
    """A stack of fake services. programs: by process name, what runs in place of SERVICE."""

    def made_up(options: StackOptions, stack_id: str) -> list[Spec]:
        broker, *services = specs(options, stack_id)
        code = {spec.name: SERVICE for spec in services} | dict(programs or {})
        return [broker, *(replace(spec, argv=python(code[spec.name])) for spec in services)]

    monkeypatch.setattr(stack_module, "specs", made_up)
    return LocalStack(
        StackOptions(modelled=True, draft_workers=2, ports=ports or Ports.free(), state_dir=state_dir)
    )
