"""Checkpoints and model files that were changed at random: refused with CheckpointError, or equal to the bit.

`pytest -m slow tests/test_checkpoint_fuzz.py` reads 20,000 of each."""
import io
import json
import os
import pickle
import random
import zipfile

import numpy as np
import pytest
from trainings import Fit, vae

from npae import models, store
from npae.checkpoint import CheckpointError
from npae.store import archive

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
HOW_MANY = pytest.mark.parametrize("n", [500, pytest.param(20_000, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The bytes of one, in the middle of the third epoch."""
    folder = tmp_path_factory.mktemp("fuzz")
    Fit(folder=folder).killed_after(8)
    return (folder / "c.npz").read_bytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "model.npz"
    vae().save(path)
    return path.read_bytes()


# -- the changes --


def flipped(data, draw):
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flipped_at_the_end(data, draw):
    """In the zip's directory, which says where the members are."""
    end = len(data) - data.rfind(b"PK\x01\x02", 0, data.rfind(b"manifest.json"))
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2))):
        changed[-1 - draw.randrange(end)] = draw.choice((0, 1, 8, 128, 255))
    return bytes(changed)


def cut(data, draw):
    return data[:draw.randrange(len(data))] + draw.choice((b"", data[draw.randrange(len(data)):]))


def grown(data, draw):
    place = draw.choice((0, len(data), draw.randrange(len(data))))
    return data[:place] + draw.randbytes(draw.randint(1, 64)) + data[place:]


def spliced(data, draw):
    """One piece written over another, as a disk does that mixes two blocks up."""
    i, j, size = draw.randrange(len(data)), draw.randrange(len(data)), draw.choice((1, 4, 64, 512))
    return data[:i] + data[j:j + size] + data[i + len(data[j:j + size]):]


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(parts, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, part in parts:
            file.writestr(name, part)
    return out.getvalue()


def repacked(data, draw):
    """Members left out, doubled, exchanged, renamed, added, compressed: a whole zip with right checksums."""
    parts = list(members(data).items())
    i, j = draw.randrange(len(parts)), draw.randrange(len(parts))
    match draw.randrange(6):
        case 0:
            parts.pop(i)
        case 1:
            parts.append(parts[i])
        case 2 if i != j:
            parts[i], parts[j] = (parts[i][0], parts[j][1]), (parts[j][0], parts[i][1])
        case 3:
            parts[i] = (draw.choice(("../x.npy", "/x.npy", "x.py", "é.npy", "x" * 300)), parts[i][1])
        case 4:
            parts.append((draw.choice(("extra.npy", "evil.pkl")), pickle.dumps(Evil())))
        case _:
            parts[i] = (parts[i][0], bytes(10_000) + parts[i][1])
    return zipped(parts, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def told_otherwise(data, draw):
    """A value of the manifest exchanged for another, with checksums of the zip that fit."""
    parts = members(data)
    manifest = json.loads(parts["manifest.json"])
    place = manifest["arrays"]
    while isinstance(place, dict | list) and len(place):
        holder, key = place, draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place = place[key]
    holder[key] = draw.choice((None, -1, 2 ** 62, "|O", "<f8", [2 ** 40, 2 ** 40], "0" * 64, True, {}, "os.getpid()"))
    parts["manifest.json"] = json.dumps(manifest).encode()
    return zipped(parts.items())


CHANGES = (flipped, flipped_at_the_end, cut, grown, spliced, repacked, told_otherwise)


class Evil:
    """A pickle that, read as one, makes a file."""

    def __reduce__(self):
        return os.mkdir, (os.environ["NPAE_CANARY"],)


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A path that nothing may ever make."""
    monkeypatch.setenv("NPAE_CANARY", str(tmp_path / "canary"))
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists()


def same(a, b):
    return a[1] == b[1] and list(a[0]) == list(b[0]) and all(
        a[0][name].tobytes() == b[0][name].tobytes() and a[0][name].dtype == b[0][name].dtype for name in b[0])


@HOW_MANY
def test_no_mutant_of_a_checkpoint_is_gone_on_with(n, checkpoint, tmp_path, canary):
    path, draw = tmp_path / "c.npz", random.Random(0)
    path.write_bytes(checkpoint)
    right, refused = store.read(path), dict.fromkeys(CHANGES, 0)
    for i in range(n):
        change = CHANGES[i % len(CHANGES)]
        path.write_bytes(change(checkpoint, draw))
        try:
            got = store.read(path)
        except CheckpointError:
            refused[change] += 1
        else:
            assert same(got, right), (i, change.__name__)
    assert all(count > n / len(CHANGES) / 4 for count in refused.values()), refused
    print(f"{n}: {sum(refused.values())} refused, the others equal to the bit, 0 otherwise")


@HOW_MANY
def test_no_mutant_of_a_model_file_is_loaded_as_another_model(n, model, tmp_path, canary):
    path, draw = tmp_path / "model.npz", random.Random(1)
    path.write_bytes(model)
    right, refused = models.load(path), 0
    for i in range(n):
        change = CHANGES[i % len(CHANGES)]
        path.write_bytes(change(model, draw))
        try:
            got = models.load(path)
        except CheckpointError:
            refused += 1
        else:
            assert got.theta.tobytes() == right.theta.tobytes() and got.config() == right.config(), (i, change.__name__)
    assert refused > n / 2
    print(f"{n}: {refused} refused, the others equal to the bit, 0 otherwise")


def test_a_pickle_in_the_place_of_numbers_is_refused_unread(checkpoint, model, tmp_path, canary):
    """As an array of objects, with a header and a digest that fit; and as the whole file."""
    for data in (checkpoint, model):
        out = io.BytesIO()
        np.save(out, np.array([Evil()], dtype=object), allow_pickle=True)
        parts = members(data)
        name = next(name for name in parts if name.endswith(".npy"))
        parts[name] = out.getvalue()
        for content in (zipped(parts.items()), pickle.dumps(Evil()), out.getvalue()):
            (tmp_path / "x.npz").write_bytes(content)
            with pytest.raises(CheckpointError):
                models.load(tmp_path / "x.npz")
            with pytest.raises(CheckpointError):
                Fit().run(resume=tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["os.system", "Model", "Layer", "__import__", "npae.lab.own", "Callback"])
def test_a_name_of_a_class_in_a_file_is_looked_up_in_a_list_and_nowhere_else(name, model, tmp_path):
    parts = members(model)
    for old in (b'"VAE"', b'"Bernoulli"', b'"Dense"', b'"tanh"'):
        assert old in parts["manifest.json"]
        changed = {**parts, "manifest.json": parts["manifest.json"].replace(old, f'"{name}"'.encode())}
        (tmp_path / "x.npz").write_bytes(zipped(changed.items()))
        with pytest.raises(CheckpointError):
            models.load(tmp_path / "x.npz")


@pytest.mark.parametrize("layer", ["Dense", "Conv2d", "ConvTranspose2d", "UpsampleConv2d"])
def test_layers_that_claim_more_weights_than_the_file_has_are_not_built(layer, tmp_path, monkeypatch):
    """A config of a few bytes that asks for 8 TiB, in a file whose digests all fit."""
    kind = {"layer": layer, "in_features": 1 << 20, "out_features": 1 << 20} if layer == "Dense" else {
        "layer": layer, "in_channels": 1 << 18, "out_channels": 1 << 18, "kernel_size": [4, 4]}
    config = {"model": "Autoencoder", "encoder": {"layer": "Sequential", "layers": [kind]},
              "decoder": {"layer": "Sequential", "layers": []}, "likelihood": {"likelihood": "Bernoulli"}}
    store.write(tmp_path / "x.npz", {"encoder.0.W": np.zeros(1000)}, config)
    monkeypatch.setattr(models, "rebuilt", None)
    with pytest.raises(CheckpointError, match=f"describes layers of {2 ** 40} weights, and has 1000 numbers"):
        models.load(tmp_path / "x.npz")


def test_a_file_of_a_few_bytes_gets_no_more_memory_than_it_has(tmp_path):
    """Headers and a manifest that agree on 8 TiB."""
    shape, dtype = (1 << 20, 1 << 20), np.dtype("<f8")
    entry = {"shape": list(shape), "dtype": dtype.str, "sha256": "0" * 64}
    manifest = {"format": archive.FORMAT, "arrays": {"theta": entry}, "meta": {}}
    (tmp_path / "x.npz").write_bytes(zipped({"manifest.json": json.dumps(manifest),
                                             "theta.npy": archive._npy_header(dtype, shape) + b"8 bytes."}.items()))
    with pytest.raises(CheckpointError, match="needs 8796093022336 bytes, its member has 136"):
        store.read(tmp_path / "x.npz")
