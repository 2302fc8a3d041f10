"""The core: packed verification of many users' drafts (docs/architecture.md).

oneDNN and torch cache compiled code for every shape, about 3 MB for each number of rows in a batch, by default up to
half a gigabyte. KEPT_SHAPES suffices for a dozen numbers of rows; compiling a new one costs 2 ms. Both read the limit
when torch is loaded, so it is set before any module here loads torch.
"""

import os
from typing import Final

KEPT_SHAPES: Final = "64"

for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, KEPT_SHAPES)
