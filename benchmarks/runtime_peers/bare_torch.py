"""torch, the model and one prediction, nothing else: what memory and start of a server are compared with.

Prints how long the import of torch took and what the process holds after the prediction.
"""

import json
import time

began = time.perf_counter()
import torch  # noqa: E402 - its import is what is timed

imported = time.perf_counter() - began

import psutil  # noqa: E402
from models import build  # noqa: E402

module, shape = build()
with torch.inference_mode():
    for rows in (1, 8, 64):
        module(torch.zeros(rows, *shape))
print(json.dumps({"import_s": imported, "rss_mb": psutil.Process().memory_info().rss / 2**20}))
