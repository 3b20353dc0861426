"""What a base installation must be able to do: load, train, predict. It prints one JSON object.

Run in an empty folder, by the Python of an environment that has nothing but unmask in it
(bench/install.py, tests/test_package.py).
"""

import json
import sys
import time
from pathlib import Path

began = time.perf_counter()
import unmask  # noqa: E402

imported = time.perf_counter()
rows = (f"{'good' if i % 2 else 'bad'} film {i},{'pos' if i % 2 else 'neg'}" for i in range(60))
Path("rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
Path("recipe.yaml").write_text("""
encoder:
  shape: tiny
  tokenizer: {vocab_size: 200}
tasks: {mood: {kind: classify, train: rows.csv, test: 0.2}}
train: {steps: 20, batch_tokens: 512}
""")
unmask.train("recipe.yaml", out="run")
model = unmask.load("run/bundle")
(answer,) = model.predict("mood", ["good film"])
extras = ("transformers", "openvino", "onnx", "captum", "fastapi", "PIL", "ray")
found = {
    "from": unmask.__file__,
    "label": answer.short,
    "vector": list(model.encode("a film").shape),
    "import_seconds": round(imported - began, 3),
    "seconds": round(time.perf_counter() - began, 3),
    "heavy": [name for name in extras if name in sys.modules],
}
print(json.dumps(found))
