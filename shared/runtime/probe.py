"""`python -m shared.runtime.probe PORT [PATH]`: whether a service on this host says that it is well. For containers.

Exits 0 on HTTP 200 and 1 on anything else, with what was said on stderr. No package is needed for it, and no curl.
"""

import http.client
import sys
from typing import Final

LIMIT_S: Final = 3.0


def probe(port: int, path: str) -> str:
    """What is wrong; "" when nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(1000).decode(errors="replace").strip()
        return "" if answer.status == 200 else f"HTTP {answer.status}: {said}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    wrong = probe(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "/readyz")
    if wrong:
        sys.exit(f"port {sys.argv[1]}: {wrong}")
