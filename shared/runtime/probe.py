"""`python -m shared.runtime.probe PORT [PATH]`: checks the health of a service on this host. For containers.

Exits 0 on HTTP 200, else 1 with the answer on stderr. Needs neither packages nor curl.
"""

import http.client
import sys
from typing import Final

LIMIT_S: Final = 3.0


def probe(port: int, path: str) -> str:
    """What is wrong; "" when the service is healthy."""
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
