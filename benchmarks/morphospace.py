"""Specimens by learned shape and texture: fusulinids, and fossils of the sample reef.

    python benchmarks/morphospace.py fusulinids FOLDER [--labels folder|initial] [--seeds 0-4]
        [--work FOLDER] [--only ours,logistic] [--unseen raw,ours] [--json FILE]
    python benchmarks/morphospace.py reef [--slices 20,24,28,32] [--seed 7] [--json FILE]

Fusulinids: FOLDER has a sub-folder for each genus. Repeated stratified 5 x 5 folds compare

- ours: the frozen head and `classify`, both with their default settings;
- untrained: the same without a training;
- logistic: ImageNet features of `lite`, standardised, and scikit-learn's logistic regression;
- knn: the same features of length 1 and five neighbours;
- softmax: the last stage of `lite` and a softmax layer, trained on the same changed copies.

Differences are paired by fold, their intervals corrected for overlapping folds (Nadeau and Bengio).
Then each pair of genera is left out of the training in turn: clusters, recall and open set of the
unseen ones beside the same figures of raw ImageNet features, with intervals over the 15 pairs.

`--labels initial` takes the genus from the first letter of a file's name instead of its folder:
docs/benchmarks/morphospace.md tells why. What was judged is kept in --work and not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Mask
from napari_fossiledit.morphospace.backbones import early_maps, lite
from napari_fossiledit.morphospace.crops import Picture, PictureFolder, cut_out
from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.morphospace.figures import corrected_interval, over_pairs, recall_at
from napari_fossiledit.morphospace.judging import Way, cross_validated, on_unseen
from napari_fossiledit.morphospace.metric import fit_head, learned_from, points_of, refine, unit
from napari_fossiledit.morphospace.model import described
from napari_fossiledit.morphospace.splits import near_duplicates, picture_hash, without_pairs
from napari_fossiledit.params.morphospace import MetricParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.progress import QUIET
from napari_fossiledit.samples.reef import Reef

Floats = NDArray[np.floating]
COPIES = 8
FIGURES = ("clustering", "mutual", "recall", "auroc", "fpr95")


class Fusulinids:
    """The pictures, their features, and the ways that are compared."""

    def __init__(self, folder: Path, labels: str, work: Path) -> None:
        self.pictures = PictureFolder.open(folder)
        items = self.pictures.items
        if labels == "initial":
            items = tuple(replace(i, name=Path(i.key).name[0]) for i in items)
        self.items = items
        self.names = [str(item.name) for item in items]
        self.backbone = lite()
        work.mkdir(parents=True, exist_ok=True)
        file = work / "maps.npy"
        if not file.exists():
            started = time.monotonic()
            kept = early_maps(self.backbone, self.pictures.pictures(), range(COPIES))
            np.save(file, kept.numpy())
            print(
                f"{len(items)} x {COPIES} pictures looked at in {time.monotonic() - started:.0f} s"
            )
        self.maps = torch.from_numpy(np.load(file))
        late = self.backbone.late
        with torch.inference_mode():
            views = [late(self.maps[:, v].float()).numpy() for v in range(COPIES)]
            # What is usually taken: means of the last stage of the upright picture.
            self.plain = late.blocks(self.maps[:, 0].float()).mean(dim=(2, 3)).numpy()
        self.looked = np.stack(views, axis=1)
        self.upright = self.looked[:, :4].mean(axis=1)

    def ours(self, rows: NDArray[np.intp], **changes: Any) -> Floats:
        """Return points after the frozen head has learned from some rows."""
        params = MetricParams(**changes)
        head = fit_head(self.looked[rows], [self.names[r] for r in rows], params)
        return points_of(head, self.upright)

    def way(self, embed: Callable[[Any], Floats]) -> Way:
        """Return a way to learn points as `classify` has them."""

        def again(rows: NDArray[np.intp], among: NDArray[np.intp]) -> Floats:
            names = [self.names[r] for r in rows]
            return learned_from(self.upright[rows], names, MetricParams(), among)

        return Way(embed, unit(self.upright), again)

    def tuned(self, rows: NDArray[np.intp], epochs: int = 10) -> Floats:
        """Return points after the last stage of the backbone has learned with the head."""
        params = MetricParams(epochs=epochs)
        names = [self.names[r] for r in rows]
        head = fit_head(self.looked[rows], names, params).requires_grad_(True)
        late = lite().late.train()
        known = torch.from_numpy(self.looked[rows])
        maps = self.maps[rows]

        def features(chosen: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
            return late(maps[chosen, views].float())

        labels = np.unique(names, return_inverse=True)[1]
        refine(head, features, known, labels, params, QUIET, late)
        return points_of(head.eval().requires_grad_(False), self._seen(late.eval()))

    @torch.inference_mode()
    def _seen(self, late: nn.Module) -> Floats:
        views = [late(self.maps[:, v].float()) for v in range(4)]
        return torch.stack(views).mean(dim=0).numpy()

    def softmax(self, rows: NDArray[np.intp], epochs: int = 15, seed: int = 0) -> Floats:
        """Return probabilities by class (n, classes) of a fine-tuned network."""
        torch.manual_seed(seed)
        kinds, labels = np.unique([self.names[r] for r in rows], return_inverse=True)
        stage = lite().late.blocks.train()
        for module in stage.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        last = nn.Linear(320, len(kinds))
        groups = [
            {"params": stage.parameters(), "lr": 3e-4},
            {"params": last.parameters(), "lr": 3e-3},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
        maps, truth = self.maps[rows], torch.from_numpy(labels)
        for _ in range(epochs):
            for batch in torch.randperm(len(rows)).split(16):
                views = torch.randint(COPIES, (len(batch),))
                logits = last(stage(maps[batch, views].float()).mean(dim=(2, 3)))
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits, truth[batch]).backward()
                optimizer.step()
        with torch.inference_mode():
            seen = [last(stage.eval()(self.maps[:, v].float()).mean(dim=(2, 3))) for v in range(4)]
            return torch.stack(seen).softmax(dim=2).mean(dim=0).numpy()


def by_logistic(known: Floats, names: Sequence[str], asked: Floats) -> list[str]:
    """Name by logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return list(made.fit(known, names).predict(asked))


def by_knn(known: Floats, names: Sequence[str], asked: Floats) -> list[str]:
    """Name by the five nearest."""
    from sklearn.neighbors import KNeighborsClassifier

    return list(KNeighborsClassifier(5, metric="cosine").fit(known, names).predict(asked))


def fusulinids(options: argparse.Namespace) -> dict[str, Any]:
    """Run both comparisons and print their tables; what was judged before is read from --work."""
    data = Fusulinids(options.folder, options.labels, options.work)
    looks = zip(data.items, data.pictures.pictures(), strict=True)
    pairs = near_duplicates([replace(i, picture=picture_hash(p)) for i, p in looks])
    print(f"{len(data.items)} pictures, near-duplicates: {pairs or 'none'}")

    def of_softmax(known: Floats, names: Sequence[str], asked: Floats) -> list[str]:
        return [str(np.unique(names)[k]) for k in asked.argmax(axis=1)]

    ways: dict[str, tuple[Way, Any]] = {
        "ours": (data.way(data.ours), None),
        "closed form": (data.way(lambda rows: data.ours(rows, epochs=0)), None),
        "untrained": (Way(lambda _: unit(data.upright)), None),
        "tuned": (data.way(data.tuned), None),
        "logistic": (Way(lambda _: data.plain), by_logistic),
        "logistic zones": (Way(lambda _: data.upright), by_logistic),
        "knn": (Way(lambda _: unit(data.plain)), by_knn),
        "softmax": (Way(data.softmax), of_softmax),
    }
    kept: dict[str, dict[int, Any]] = {}
    for name in options.only.split(",") if options.only else ways:
        way, namer = ways[name]
        for seed in parse_slices(options.seeds, 10_000):
            found = _kept(
                options.work / f"{options.labels}-{name}-{seed}.json",
                lambda e=way, n=namer, s=seed: cross_validated(
                    data.items, e, count=5, seeds=[s], namer=n
                ).summary(),
            )
            kept.setdefault(name, {})[seed] = found
    print(
        "| way | repeats | accuracy | macro F1 | ours less it: accuracy | macro F1 | of a class |"
    )
    for name, found in kept.items():
        shared = [seed for seed in found if seed in kept.get("ours", {})]
        row = []
        for figure in ("fold_accuracy", "fold_f1"):
            own = np.ravel([found[seed][figure] for seed in found])
            row.append(corrected_interval(own, 1 / 5))
            if shared:
                mine = np.ravel([kept["ours"][seed][figure] for seed in shared])
                other = np.ravel([found[seed][figure] for seed in shared])
                row.append(corrected_interval(mine - other, 1 / 5))
        counts = sum(np.array(f["naming"]["confusion"]) for f in found.values())
        recalls = np.round(np.diag(counts) / counts.sum(axis=1), 2).tolist()
        said = [
            corrected_interval([found[s][k]["mean"] for s in found], 1 / 5).mean
            for k in ("confidence", "refused")
            if found[next(iter(found))].get(k)
        ]
        if said:
            print(f"{name}: mean confidence {said[0]:.3f}, called unknown {said[1]:.3f}")
        cells = [name, len(found), *row[::2], *row[1::2], recalls]
        print("| " + " | ".join(map(str, cells)) + " |")
    unseen = _left_out(data, options) if options.unseen else {}
    return {"folds": kept, "unseen": unseen}


def _kept(file: Path, make: Callable[[], Any]) -> Any:
    if not file.exists():
        file.write_text(json.dumps(make()))
    return json.loads(file.read_text())


def _left_out(data: Fusulinids, options: argparse.Namespace) -> dict[str, Any]:
    ways = {
        "raw": Way(lambda _: unit(data.plain)),
        "untrained": Way(lambda _: unit(data.upright)),
        "ours": data.way(data.ours),
        "share 0.3": data.way(lambda rows: data.ours(rows, share=0.3)),
    }
    figures = {}
    for name in options.unseen.split(","):
        way = ways[name]
        rows = _kept(
            options.work / f"{options.labels}-unseen-{name}-{options.unseen_seed}.json",
            lambda e=way: [
                on_unseen(data.items, pair, e, seed=options.unseen_seed).summary()
                for pair, _ in without_pairs(data.items)
            ],
        )
        pairs = [tuple(row["classes"]) for row in rows]
        figures[name] = np.array([[row[k] for k in FIGURES] for row in rows], float)
        shown = [over_pairs(c, pairs, 0) for c in figures[name].T]
        print(f"| {name} | " + " | ".join(map(str, shown)) + " |")
        for other in [*figures][:-1]:
            gain = [over_pairs(c, pairs, 0) for c in (figures[name] - figures[other]).T]
            print(f"| {name}, less {other} | " + " | ".join(map(str, gain)) + " |", flush=True)
    return {name: values.tolist() for name, values in figures.items()}


def reef(options: argparse.Namespace) -> dict[str, Any]:
    """Judge recall of texture, and of the same specimen in another slice, on the sample reef."""
    made = Reef(ReefParams(seed=options.seed))
    items: list[Item] = []
    pictures: list[Picture] = []
    for z in parse_slices(options.slices, len(made)):
        shot = made.slice(z)
        for number in np.unique(shot.specimens)[1:]:
            inside = shot.specimens == number
            mask = Mask.from_array(inside)
            y0, x0, y1, x1 = mask.box
            if min(y1 - y0, x1 - x0) < 16:
                continue
            texture = made.textures[int(number)]
            items.append(Item(f"{z}/{number}", str(number), texture, z, int(number), int(number)))
            pictures.append(cut_out(shot.rgb, mask, own_mean=options.own_mean))
    looked = described(lite(options.edge), pictures, outline=False, copies=range(4))
    groups, textures = [item.group for item in items], [str(item.name) for item in items]
    z, numbers = np.array([item.slice for item in items]), np.array([int(g) for g in groups])
    upright = looked.mean(axis=1)
    found: dict[str, dict[str, float]] = {}
    print(f"{len(items)} sections of {len(set(groups))} specimens")
    for way, share in (("raw", None), ("learned, share 0.8", 0.8), ("learned, share 0.3", 0.3)):
        recalls = []
        # Two halves by specimen: each is judged by what was learned on the other.
        for rows in (np.flatnonzero(numbers % 2 == 0), np.flatnonzero(numbers % 2)):
            rest = np.setdiff1d(np.arange(len(items)), rows)
            if share is None:
                points = unit(looked[rows, 0])
            else:
                head = fit_head(
                    looked[rest], [textures[r] for r in rest], MetricParams(share=share)
                )
                points = points_of(head, upright[rows])
            others = numbers[rows][:, None] != numbers[rows]
            elsewhere = z[rows][:, None] != z[rows]
            texture = recall_at(points, [textures[r] for r in rows], comparable=others)[1]
            specimen = recall_at(points, [groups[r] for r in rows], comparable=elsewhere)[1]
            recalls.append((texture, specimen))
        texture, specimen = np.mean(recalls, axis=0).tolist()
        found[way] = {"texture": texture, "specimen": specimen}
        print(f"| {way} | {texture:.3f} | {specimen:.3f} |")
    return found


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("fusulinids")
    first.add_argument("folder", type=Path)
    first.add_argument("--labels", choices=("folder", "initial"), default="folder")
    first.add_argument("--seeds", default="0-4")
    first.add_argument("--unseen-seed", type=int, default=0)
    first.add_argument("--work", type=Path, default=Path("morphospace-work"))
    first.add_argument("--only", default="")
    first.add_argument("--unseen", default="raw,untrained,ours")
    first.set_defaults(run=fusulinids)
    second = commands.add_parser("reef")
    second.add_argument("--slices", default="20,24,28,32")
    second.add_argument("--seed", type=int, default=7)
    second.add_argument("--edge", type=int, default=224)
    second.add_argument("--own-mean", action="store_true")
    second.set_defaults(run=reef)
    for command in (first, second):
        command.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = options.run(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
