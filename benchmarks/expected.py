"""How often F-scores lie where they were expected, and whether the right model is taken.

    python benchmarks/expected.py --reference
    python benchmarks/expected.py --cover [--json FILE]
    python benchmarks/expected.py --real PROJECT --model NAME
    python benchmarks/expected.py --choose PROJECT,PROJECT,... --candidates MODEL,MODEL,...

`--reference` writes the table that `fossiledit expect` goes by where a rock has few traced slices:
`reef-lite` on three neighbouring slices of six reefs in six looks each (seeds 61 to 66). `--cover`
expects the F-scores of other reefs in these looks (seeds 81 to 86), and of reefs in looks that are
not in the table (91 to 96), and counts. `--real` leaves out each traced slice of a project in turn.
`--choose` compares models on stacks whose chosen slices are all traced. Predictions on reefs are
kept in the folder `--work`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agenda import LEARNED, LEARNED_SEED, SHIFTS, Rgb, judged, looked, slices_of
from skimage.transform import resize

from napari_fossiledit.evaluation import expected
from napari_fossiledit.evaluation.expected import (
    FEWEST,
    PREDICTORS,
    Known,
    from_reefs,
    from_traced,
    reference,
)
from napari_fossiledit.evaluation.figures import pixels
from napari_fossiledit.evaluation.numbers import bootstrap
from napari_fossiledit.evaluation.relation import f_score, relation
from napari_fossiledit.models.inference.features import PyramidFeatures
from napari_fossiledit.params.agenda import ExpectParams
from napari_fossiledit.params.segment import Device
from napari_fossiledit.selection.distances import distances, min_max
from napari_fossiledit.workflows.agenda import expected as workflow
from napari_fossiledit.workflows.shared.model_refs import find_model

Row = dict[str, Any]

TUNING = range(61, 67)
"""Seeds on which predictors were chosen."""

THRESHOLD = 0.25
"""Score that was best over them."""


def _rounded(values: np.ndarray[Any, Any]) -> Rgb:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _coarser(rgb: Rgb, amount: float) -> Rgb:
    size = [int(edge / (1 + 5 * amount)) for edge in rgb.shape[:2]]
    small = resize(rgb, size, preserve_range=True, anti_aliasing=True)
    return _rounded(resize(small, rgb.shape[:2], order=0, preserve_range=True))


OTHER_SHIFTS = {
    "darker": lambda rgb, a: _rounded(rgb * (1 - 0.75 * a)),
    "more contrast": lambda rgb, a: _rounded(128 + (rgb - 128.0) * (1 + 2 * a)),
    "coarser pixels": _coarser,
    "shadow": lambda rgb, a: _rounded(
        rgb * np.linspace(1, 1 - 0.85 * a, rgb.shape[1])[None, :, None]
    ),
    "less colour": lambda rgb, a: _rounded(rgb + a * (rgb.mean(axis=2, keepdims=True) - rgb)),
}
"""Changes that the table of sample reefs knows nothing of."""


class Reefs:
    """Reef slices under changes, each with its predictors and the pixels that were found."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._model = find_model(None, "reef-lite").load(Device.CPU)
        self._eye = PyramidFeatures(self._model)
        known = looked(self._eye, [rgb for rgb, _ in slices_of(LEARNED_SEED, LEARNED)])
        # Four digits: the table comes with the package.
        self.learned = np.array([[float(f"{value:.4g}") for value in row] for row in known])

    def rows(self, seed: int, looks: Sequence[str], rng: np.random.Generator) -> Iterator[Row]:
        """Predict three neighbouring slices of a reef in each of some looks."""
        shifts = SHIFTS | OTHER_SHIFTS
        for look in looks:
            amount = float(rng.uniform()) if look in shifts else 0.0
            first = int(rng.integers(2, 58))
            file = self._work / f"{seed}-{look}.json"
            if not file.is_file():
                chosen = [first, first + 1, first + 2]
                slices = [
                    (shifts[look](rgb, amount) if look in shifts else rgb, truths)
                    for rgb, truths in slices_of(seed, chosen)
                ]
                file.write_text(json.dumps(self._looked_at(slices)))
            for row in json.loads(file.read_text()):
                yield {"reef": seed, "look": look, **row}

    def _looked_at(self, slices: list[Any]) -> list[Row]:
        features = looked(self._eye, [rgb for rgb, _ in slices])
        relative = expected.relative(distances(self.learned, features).means, self.learned)
        rows = []
        for n, (rgb, truths) in enumerate(slices):
            seen = judged(self._model, n, rgb, truths)
            found = expected.predictors_of(float(relative[n]), [i.score for i in seen.predictions])
            score = f_score([pixels([seen], score=THRESHOLD)])
            rows.append({"f_score": score} | dict(zip(PREDICTORS, found, strict=True)))
        return rows


def known_of(rows: Sequence[Row]) -> Known:
    """Return rows as arrays."""
    places: dict[Any, int] = {}
    return Known(
        np.array([[row[name] for name in PREDICTORS] for row in rows]),
        np.array([row["f_score"] for row in rows]),
        np.array([row["reef"] for row in rows]),
        np.array([places.setdefault((r["reef"], r["look"]), len(places)) for r in rows]),
    )


def write_table(reefs: Reefs) -> None:
    """Write the table that comes with the package."""
    rng, rows = np.random.default_rng(TUNING[0]), []
    for seed in TUNING:
        rows += [*reefs.rows(seed, ["unchanged", *SHIFTS], rng)]
    for row, stack in zip(rows, known_of(rows).stacks.tolist(), strict=True):
        del row["look"]
        row |= {k: round(v, 4) for k, v in row.items() if isinstance(v, float)}
        row["stack"] = stack
    model = find_model(None, "reef-lite").model_hash
    table = {"learned": {model: reefs.learned.tolist()}, "slices": rows}
    expected.TABLE.write_text(json.dumps(table))
    print(f"{len(rows)} slices of {len(TUNING)} reefs: {expected.TABLE}")


def cover(reefs: Reefs) -> dict[str, Any]:
    """Count how many F-scores of unseen reefs lie within their interval."""
    figures: dict[str, Any] = {}
    sets = {"81-86": (range(81, 87), SHIFTS), "91-96": (range(91, 97), OTHER_SHIFTS)}
    print("| reefs | look | slices | within | width | error | error of the mean F of all others |")
    for name, (seeds, shifts) in sets.items():
        rng, rows = np.random.default_rng(seeds[0]), []
        for seed in seeds:
            rows += [*reefs.rows(seed, ["unchanged", *shifts], rng)]
        known = known_of(rows)
        told = [from_reefs(reference().known, x) for x in _split(known)]
        truth = known.f_scores
        low, middle, high = (
            np.concatenate([getattr(t, part) for t in told])
            for part in ("lows", "f_scores", "highs")
        )
        within = (low <= truth) & (truth <= high)
        inside = ~np.concatenate([t.beyond for t in told])
        usual = reference().known.f_scores.mean()
        looks, by = np.array([r["look"] for r in rows]), np.array([r["reef"] for r in rows])
        for look in ("all", *dict.fromkeys(looks)):
            of = np.ones(len(rows), bool) if look == "all" else looks == look
            print(
                f"| {name} | {look} | {of.sum()} | {within[of].mean():.2f} | "
                f"{(high - low)[of].mean():.2f} | {np.abs(truth - middle)[of].mean():.3f} | "
                f"{np.abs(truth - usual)[of].mean():.3f} |"
            )
        each = [float(within[by == seed].mean()) for seed in seeds]
        stacks = np.array([t.stack for t in told])
        means = np.array([truth[known.stacks == n].mean() for n in range(len(told))])
        right = float(((stacks[:, 1] <= means) & (means <= stacks[:, 2])).mean())
        print(f"{inside.sum()} slices are within the table: {within[inside].mean():.3f} of them.")
        print(f"By reef {each}, mean {np.mean(each):.3f}, interval {bootstrap(each, seed=0)};")
        print(f"mean F of three slices within its own interval: {right:.2f} of {len(told)}")
        own = _with_traced(known, by)
        print(f"With nine traced slices of the reef: {own}")
        figures[name] = {"within": float(within.mean()), "by_reef": each, "traced": own}
        print(
            "| look | F (distance), nearer half | farther half | nearest third | farthest third |"
        )
        for look in dict.fromkeys(looks):
            far = min_max(np.exp(known.predictors[looks == look, 0]))
            cells = [
                f"{p.f_score:.3f} ({p.distance:.2f}, {p.deviation:.2f})"
                for p in relation(far, truth[looks == look]).parts
            ]
            print(f"| {look} | {' | '.join(cells)} |")
    return figures


def _split(known: Known) -> list[np.ndarray[Any, Any]]:
    return [known.predictors[known.stacks == n] for n in range(known.stacks.max() + 1)]


def _with_traced(known: Known, by: np.ndarray[Any, Any], draws: int = 20) -> dict[str, Any]:
    """Trace nine of the eighteen slices of each reef, in all its looks, and expect the others."""
    rng, each, widths, errors = np.random.default_rng(0), [], [], []
    for seed in np.unique(by):
        inside, hits = np.flatnonzero(by == seed), []
        for _ in range(draws):
            drawn = rng.permutation(inside)
            traced, rest = drawn[:FEWEST], drawn[FEWEST:]
            told = from_traced(
                reference().known,
                known.predictors[rest],
                known.predictors[traced],
                known.f_scores[traced],
            )
            truth = known.f_scores[rest]
            hits += [*((told.lows <= truth) & (truth <= told.highs))]
            widths += [*(told.highs - told.lows)]
            errors += [*np.abs(truth - told.f_scores)]
        each.append(float(np.mean(hits)))
    return {
        "within": float(np.mean(each)),
        "interval": bootstrap(each, seed=0),
        "width": float(np.mean(widths)),
        "error": float(np.mean(errors)),
    }


def real(project: Path, model: str) -> dict[str, Any]:
    """Expect F-scores of the traced slices of a project from all others, or from sample reefs."""
    result = workflow.run(project, ExpectParams(model=model, device=Device.CPU))
    found = result.candidates[0]
    traced = [n for n, row in enumerate(found.rows) if row["f_score"] is not None]
    x, truth = found.predictors[traced], np.array([found.rows[n]["f_score"] for n in traced])
    ways = {"sample reefs": from_reefs(reference().known, x)}
    if len(traced) > FEWEST:
        parts = []
        for n in range(len(traced)):
            others = np.arange(len(traced)) != n
            parts.append(from_traced(reference().known, x[[n]], x[others], truth[others]))
        columns = ("f_scores", "lows", "highs")
        ways["the other slices"] = expected.Expected(
            *(np.concatenate([getattr(p, c) for p in parts]) for c in columns),
            parts[0].stack,
            np.zeros(len(traced), dtype=bool),
        )
    figures: dict[str, Any] = {"f_scores": truth.tolist()}
    for name, told in ways.items():
        within = (told.lows <= truth) & (truth <= told.highs)
        figures[name] = {
            "within": int(within.sum()),
            "slices": len(truth),
            "width": float((told.highs - told.lows).mean()),
            "expected": float(told.f_scores.mean()),
            "found": float(truth.mean()),
            "error": float(np.abs(told.f_scores - truth).mean()),
        }
    print(json.dumps(figures))
    return figures


def choose(projects: Sequence[Path], candidates: str, slices: str) -> None:
    """Compare the model that would be taken without a tracing with that of the best F-score."""
    hits, lost = 0, []
    print("| stack | model | relative distance | expected F (90 %) | F | taken |")
    for project in projects:
        params = ExpectParams(candidates=candidates, slices=slices, device=Device.CPU)
        result = workflow.run(project, params)
        rows = sorted(result.candidates, key=lambda c: -c.expected)
        best = max(rows, key=lambda c: c.f_score or 0.0)
        hits += rows[0] is best
        lost.append((best.f_score or 0.0) - (rows[0].f_score or 0.0))
        for n, row in enumerate(rows):
            far = "-" if row.relative_distance is None else f"{row.relative_distance:.2f}"
            print(
                f"| {project.parent.name}/{project.stem} | {row.model} | {far} | "
                f"{row.expected:.2f} ({row.low:.2f} to {row.high:.2f}) | {row.f_score:.2f} | "
                f"{'taken' if n == 0 else ''}{' best' if row is best else ''} |",
                flush=True,
            )
    print(f"The best was taken {hits} of {len(lost)} times; F lost on the mean {np.mean(lost):.3f}")


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=Path("expected-work"))
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--cover", action="store_true")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--model", default="")
    parser.add_argument("--choose", default="")
    parser.add_argument("--candidates", default="")
    parser.add_argument("--slices", default="")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    if chosen.reference:
        write_table(Reefs(chosen.work))
    if chosen.cover:
        figures["cover"] = cover(Reefs(chosen.work))
    if chosen.real:
        figures["real"] = real(chosen.real, chosen.model)
    if chosen.choose:
        choose([Path(text) for text in chosen.choose.split(",")], chosen.candidates, chosen.slices)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
