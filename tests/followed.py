"""One number of the report followed to its record, as a reader would: followed.py results/report."""

import json
import re
import sys
from html import unescape
from pathlib import Path
from statistics import mean
from urllib.parse import unquote

LOSS = "validation_loss_nats"

report = Path(sys.argv[1])
index = (report / "index.html").read_text(encoding="utf-8")
sense = re.search(r"<h2>At equal FLOPs, one size</h2>.*?</table>", index, re.DOTALL)
assert sense is not None, "the verdict has no line at equal FLOPs in one size"
link, shown = re.findall(r'<td class="number"><a href="([^"]+)">([^<]+)</a>', sense[0])[0]
place, _, words = unescape(link).partition("#")
page = (report / place).read_text(encoding="utf-8")
(raw,) = set(re.findall(r'href="([^"]+)" download', page))
record = json.loads((report / place).parent.joinpath(raw).resolve().read_text(encoding="utf-8"))
assert record["code"]["commit"] in page

first, other = re.findall(r"layer=(\w+)\|(\w+)", unquote(words))[0]
losses = {
    layer: mean(r["metrics"][LOSS] for r in record["records"] if r["case"]["layer"] == layer)
    for layer in (first, other)
}
difference = losses[first] - losses[other]
assert f"{difference:+.3f}" == shown.replace("−", "-"), (difference, shown)
print(
    f"{first} less {other}, {shown} nats, is what {place} holds of {record['code']['commit'][:12]}"
)
