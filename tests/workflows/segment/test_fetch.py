"""Published weights: fetched into the cache from a server of this machine, and started from."""

import json
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import file_digest
from napari_fossiledit.models.detectron2.write import to_detectron2
from napari_fossiledit.models.files.published import COCO, Published, place_of
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.segment import CocoWeights, Device, FetchParams, TrainParams
from napari_fossiledit.progress import Job
from napari_fossiledit.workflows.segment import fetch, train

NAME = CocoWeights.DETECTRON2_R50


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A small file that a server of this machine publishes as one of the weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "served" / "model_final.pkl"
    file.parent.mkdir()
    file.write_bytes(bytes(range(250)) * 4000)
    handler = partial(Quiet, directory=str(file.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{file.name}"
        digest = f"md5:{file_digest(file, 'md5')[:6]}"
        made = Published(url, file.stat().st_size, digest, "CC BY-SA 3.0")
        monkeypatch.setitem(COCO, NAME, made)
        yield made
        server.shutdown()
        thread.join()


def test_addresses_carry_the_digits_that_are_checked():
    assert set(COCO) == set(CocoWeights)
    for known in COCO.values():
        method, _, digits = known.digest.partition(":")
        assert known.url.startswith("https://")
        assert known.url.rpartition(".")[0].endswith(digits)
        assert method == ("sha256" if known.url.endswith(".pth") else "md5")


def test_size_and_licence_come_first_and_a_second_time_nothing_is_fetched(known, tmp_path):
    reports = []
    made = fetch.run(FetchParams(name=NAME), job=Job(reports.append))
    first = reports[0]
    assert first.total == 0
    assert f"{known.size // 10**6} MB from {known.url}. Licence: CC BY-SA 3.0." in first.message
    assert made.folder == place_of(NAME).parent
    assert made.folder.is_relative_to(tmp_path / "cache")
    assert "begins with" in made.notes[1]
    record = json.loads((made.folder / "fetched.json").read_text())
    assert record == {"url": known.url, "sha256": made.sha256, "licence": known.licence}
    COCO[NAME] = Published("http://127.0.0.1:9/model_final.pkl", 1, "md5:0", "")
    again = fetch.run(FetchParams(name=NAME))
    assert again.sha256 == made.sha256
    assert "nothing was downloaded" in again.notes[1]


def test_what_was_damaged_in_the_cache_is_fetched_anew(known):
    made = fetch.run(FetchParams(name=NAME))
    file = place_of(NAME)
    with file.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"damaged")
    assert fetch.run(FetchParams(name=NAME)).sha256 == made.sha256
    (made.folder / "fetched.json").write_text("[")
    assert fetch.run(FetchParams(name=NAME)).notes == made.notes


def test_the_command_prints_what_was_fetched_and_knows_five_names(known):
    result = CliRunner().invoke(app, ["models", "fetch", str(NAME), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["model"], told["size"]) == (NAME, known.size)
    assert "Licence: CC BY-SA 3.0." in result.stderr
    wrong = CliRunner().invoke(app, ["models", "fetch", "resnet", "--json"])
    assert wrong.exit_code == 2
    assert all(name in json.loads(wrong.stdout)["error"]["message"] for name in CocoWeights)


def test_a_training_starts_from_it_by_name_once_it_is_fetched(reef_project, known):
    params = TrainParams(
        name="begun",
        architecture="r50",
        slices="0",
        init=str(NAME),
        max_steps=1,
        crop=64,
        batch=1,
        device=Device.CPU,
    )
    with pytest.raises(FossilError, match="detectron2-r50 were not fetched yet") as caught:
        train.run(reef_project, params)
    assert "fossiledit models fetch detectron2-r50" in caught.value.advice
    assert f"fetch {known.url} elsewhere and give its path (--init FILE)" in caught.value.advice
    torch.manual_seed(1)
    network = MaskRcnn(default_spec("r50", tuple(f"c{n}" for n in range(80))))
    content, _ = to_detectron2(MaskRcnnSegmenter(network, Preprocessing()))
    file = place_of(NAME)
    file.parent.mkdir(parents=True)
    # As the zoo writes them: a plain pickle of arrays.
    model = {name: value.numpy() for name, value in content["model"].items()}
    file.write_bytes(pickle.dumps({"model": model, "__author__": "Detectron2 Model Zoo"}))
    made = train.run(reef_project, params)
    file.unlink()
    assert made.steps == 1
    assert any("another number of classes" in note for note in made.notes)
