"""Broken stand-ins for llama.cpp, placed before the real one on a process's path."""

import os
from pathlib import Path

ILLEGAL = "import os, signal\nprint('CPU : AVX2 = 1 | AVX512 = 1 | AMX_INT8 = 1 | ', flush=True)\n"
DIES = ILLEGAL + "os.kill(os.getpid(), signal.SIGILL)\n"


def path_with(folder: Path, source: str) -> dict[str, str]:
    """Environment of a process in which `import llama_cpp` runs this source."""
    package = folder / "llama_cpp"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(source)
    here = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), here)))}
