"""Measure balancing: the effective number of true classes in a sample, before and after.

Labels have a long tail: 10,000 classes (a verb and its object) with a Zipf exponent of 1.1. Each
segment's action is worded independently: synonyms, articles, adverbs, tools and places vary, with
long tails of their own. For comparison, distinct actions are also drawn uniformly, without
clusters. `--full` uses 2,000,000 segments instead of 200,000; `--figure FILE` plots the classes.
"""

from __future__ import annotations

import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import action100m
from action100m.dataset.balance import balance
from action100m.dataset.balance.weights import effective_number
from action100m.report.before_after import before_after
from action100m.report.style import save
from action100m.schema import GPT, NODE, SCHEMA
from harness import finish, parse_arguments, print_table

CLASSES, ZIPF, PER_VIDEO, CLUSTERS, RATIO = 10_000, 1.1, 120, 2_000, 5.0
_VERBS = """
cut/slice/chop stir/mix/blend pour/tip/empty peel/skin/strip wash/rinse/clean dry/wipe/towel
fold/crease/double roll/wind/curl press/push/squeeze pull/tug/draw lift/raise/hoist
lower/drop/sink turn/rotate/twist open/unseal/uncover close/shut/seal fill/load/top
drain/strain/sieve heat/warm/boil cool/chill/freeze fry/sear/brown bake/roast/toast
grate/shred/mince season/salt/spice taste/try/sip measure/gauge/weigh mark/label/tag
paint/coat/varnish sand/smooth/polish drill/bore/pierce screw/fasten/bolt hammer/nail/pound
saw/trim/crop glue/stick/bond tape/wrap/bind tie/knot/lace sew/stitch/hem
iron/flatten/straighten hang/mount/suspend stack/pile/heap sort/arrange/order count/tally/number
carry/move/bring place/set/put remove/detach/take attach/connect/join insert/slot/plug
unscrew/loosen/undo inspect/examine/check test/probe/verify adjust/tune/align repair/fix/mend
replace/swap/change assemble/build/construct lubricate/oil/grease charge/power/wire
solder/weld/fuse bend/flex/curve stretch/extend/lengthen shake/rattle/jiggle tap/knock/pat
scrape/scour/scrub brush/sweep/comb dust/vacuum/hoover soak/steep/marinate plant/sow/bury
water/spray/sprinkle prune/clip/shear dig/shovel/spade rake/gather/collect feed/nourish/serve
train/coach/teach throw/toss/hurl catch/grab/grasp kick/strike/hit bounce/dribble/juggle
jump/hop/leap balance/steady/hold drag/haul/tow steer/drive/pilot park/station/halt
refuel/gas/tank photograph/film/record display/show/present point/indicate/gesture
type/enter/key click/select/choose scroll/swipe/browse read/study/scan write/note/jot
print/copy/photocopy cover/shield/mask decorate/adorn/garnish knead/work/massage whisk/beat/whip
spread/smear/slather
"""
_OBJECTS = """
onion carrot potato tomato pepper garlic apple lemon banana orange chicken fish egg bread dough
butter cheese milk flour sugar rice pasta soup sauce salad cake cookie coffee tea juice bottle
bowl plate cup pan pot oven knife spoon fork board plank beam nail screw bolt nut washer pipe
hose valve pump motor engine wheel tyre chain brake pedal bicycle car battery cable lamp switch
socket fuse phone laptop camera lens tripod screen keyboard paper card envelope box bag ribbon
string rope fabric shirt sock shoe button zipper curtain pillow blanket mattress chair table
drawer shelf door window wall floor ceiling brick tile rug towel mirror clock candle basket
bucket ladder hammer chisel saw wrench drill tractor lawn tree seed flower leaf fence rock sand
boat sail oar tent guitar piano drum violin ball racket bat helmet saddle horse dog cat doll
puzzle kite balloon wig mask necklace ring watch
"""
_EXTRAS = """
and slowly carefully quickly gently firmly evenly thinly again together neatly
with knife hands brush spoon cloth pliers wrench machine glove stick tool tongs
in kitchen workshop garden garage bowl corner studio room yard tray sink
for camera guests beginners dinner children later display practice
"""


def zipf(count: int, exponent: float) -> NDArray[np.float64]:
    """Return the shares of `count` ranks."""
    shares = np.arange(1, count + 1) ** -exponent
    return np.asarray(shares / shares.sum())


def worded(labels: NDArray[np.int64], generator: np.random.Generator) -> list[str]:
    """Return an action for each label: its verb or a synonym, its object, and extra words."""
    n = len(labels)
    classes = list(product(_VERBS.split(), _OBJECTS.split()))
    verbs, objects = zip(*(classes[i] for i in generator.permutation(len(classes))), strict=True)
    synonyms = generator.choice(3, n, p=[0.6, 0.25, 0.15])
    articles = generator.choice([" ", " the ", " a ", " some "], n, p=[0.5, 0.3, 0.15, 0.05])
    extras = []
    for line in _EXTRAS.strip().splitlines():
        word, *ends = line.split()
        shares = [0.88, *0.12 * zipf(len(ends), 1.0)]
        extras.append(generator.choice(["", *(f" {word} {end}" for end in ends)], n, p=shares))
    return [
        f"{verbs[label].split('/')[synonym]}{article}{objects[label]}{''.join(more)}"
        for label, synonym, article, *more in zip(labels, synonyms, articles, *extras, strict=True)
    ]


def write_dataset(path: Path, actions: list[str]) -> None:
    """Write the actions as segments in the published format, PER_VIDEO segments per video."""
    n = len(actions)
    within = np.arange(n) % PER_VIDEO
    ids = pa.array([f"node{number}" for number in range(n)])
    parents = np.maximum(np.arange(n) - within + (within - 1) // 2, 0)
    brief = pa.StructArray.from_arrays(
        [pa.array(actions), pa.nulls(n, pa.string()), pa.nulls(n, pa.string())],
        fields=list(GPT.field("action").type),
    )
    columns = {
        "node_id": ids,
        "parent_id": pa.array(np.where(within == 0, None, ids.take(pa.array(parents)))),
        "level": pa.array(np.log2(within + 1).astype(np.int16)),
        "start": pa.array(within.astype(np.float32)),
        "end": pa.array((within + 4).astype(np.float32)),
        "gpt": pa.StructArray.from_arrays(
            [pa.nulls(n, GPT.field("summary").type), brief], fields=list(GPT)
        ),
    }
    arrays = [columns.get(field.name, pa.nulls(n, field.type)) for field in NODE]
    nodes = pa.StructArray.from_arrays(arrays, fields=list(NODE))
    offsets = pa.array(np.append(np.arange(0, n, PER_VIDEO), n).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, nodes, type=SCHEMA.field("nodes").type)
    uids = pa.array([f"video{number:07d}" for number in range(len(lists))])
    metadata = pa.nulls(len(lists), SCHEMA.field("metadata").type)
    pq.write_table(pa.table([uids, metadata, lists], schema=SCHEMA), path, row_group_size=500)


def main() -> None:
    """Measure, and print the table and the result."""
    arguments = parse_arguments(__doc__, figure=True)
    n = 2_000_000 if arguments.full else 200_000
    generator = np.random.default_rng(0)
    labels = generator.choice(CLASSES, n, p=zipf(CLASSES, ZIPF))
    actions = worded(labels, generator)
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data.parquet", Path(folder) / "index.parquet"
        write_dataset(data, actions)
        begun = time.perf_counter()
        balance(action100m.open(data), out, clusters=CLUSTERS, samples=n)
        seconds = time.perf_counter() - begun
        index = pq.read_table(out, columns=["cluster", "draws"])
    draws, cluster = (index.column(name).to_numpy() for name in ("draws", "cluster"))
    assert draws.sum() == n
    _, text, repeats = np.unique(actions, return_inverse=True, return_counts=True)
    ways = {
        "as the segments are": np.ones(n),
        "distinct actions uniformly": 1 / repeats[text],
        "clusters uniformly, then their segments": 1 / np.bincount(cluster)[cluster],
        "clusters uniformly, then their actions (the draws)": draws.astype(float),
    }
    classes = {way: np.bincount(labels, weights, CLASSES) for way, weights in ways.items()}
    numbers = [effective_number(shares) for shares in classes.values()]
    print(f"{n:,} segments, {len(repeats):,} distinct actions, {CLUSTERS:,} clusters")
    rows = [[way, number, number / numbers[0]] for way, number in zip(ways, numbers, strict=True)]
    print_table(("drawn", "effective number of true classes", "ratio"), rows)
    if arguments.figure:
        before, *_, after = classes.values()
        save(before_after({"true classes": (before, after)}), arguments.figure)
    ratio = numbers[-1] / numbers[0]
    more = {"ratio_wanted": RATIO, "actions_alike": numbers[1], "seconds": seconds}
    finish("balance", ours=numbers[-1], rival=numbers[0], ratio=ratio, unit="classes", **more)


if __name__ == "__main__":
    main()
