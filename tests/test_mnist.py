"""MNIST: where it is looked for, what is verified, how it is fetched from good and bad mirrors (all of them local)."""
import gzip
import hashlib
import http.server
import os
import socket
import struct
import threading
import time

import numpy as np
import pytest

from npae import data
from npae.data import mnist
from npae.data.idx import read_idx, write_idx

TRAIN, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with four small files in MNIST's place, and their digests in place of MNIST's."""
    folder = tmp_path / "small"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = [(6, 5, 4), (6,), (3, 5, 4), (3,)]
    digests = {}
    for stem, shape in zip(mnist.SHA256, shapes, strict=True):
        write_idx(folder / stem, rng.integers(0, 10, shape, np.uint8))
        digests[stem] = hashlib.sha256((folder / stem).read_bytes()).hexdigest()
    monkeypatch.setattr(mnist, "SHA256", digests)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))  # the port "discard": nobody listens
    monkeypatch.delenv("NPAE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


def zipped(folder):
    for stem in mnist.SHA256:
        (folder / f"{stem}.gz").write_bytes(gzip.compress((folder / stem).read_bytes()))
        (folder / stem).unlink()


def dotted(folder):
    for stem in mnist.SHA256:
        (folder / stem).rename(folder / stem.replace("-idx", ".idx"))


def zipped_and_dotted(folder):
    zipped(folder)
    for stem in mnist.SHA256:
        (folder / f"{stem}.gz").rename(folder / (stem.replace("-idx", ".idx") + ".gz"))


# -- where it is looked for --


@pytest.mark.parametrize("change", [lambda folder: None, zipped, dotted, zipped_and_dotted])
def test_the_four_files_are_found_under_every_usual_name(small, change):
    expected = mnist.load(small)
    change(small)
    assert set(mnist.find(small)) == set(mnist.SHA256)
    for got, array in zip(mnist.load(small), expected, strict=True):
        np.testing.assert_array_equal(got, array)


def test_the_parts_come_as_train_pictures_train_labels_test_pictures_test_labels(small):
    parts = mnist.load(small)
    assert [part.shape for part in parts] == [(6, 5, 4), (6,), (3, 5, 4), (3,)]
    for part, stem in zip(parts, mnist.SHA256, strict=True):
        np.testing.assert_array_equal(part, read_idx(small / stem))


def test_the_named_folder_comes_before_the_variable_and_that_before_the_cache(small, cache, tmp_path, monkeypatch):
    assert mnist.place() == (cache / "mnist", None)
    monkeypatch.setenv("NPAE_DATA", str(tmp_path / "variable"))
    assert mnist.place() == (tmp_path / "variable", "$NPAE_DATA")
    assert mnist.place(small) == (small, "dir")


@pytest.mark.parametrize("way", ["dir", "variable"])
def test_a_named_folder_that_lacks_a_file_is_an_error_and_nothing_is_fetched(small, cache, monkeypatch, way):
    (small / LABELS).unlink()
    monkeypatch.setattr(mnist, "_download", lambda *args: pytest.fail("downloaded"))
    if way == "variable":
        monkeypatch.setenv("NPAE_DATA", str(small))
    with pytest.raises(ValueError, match=f"{small}.*lacks {LABELS}.*--data-dir or \\$NPAE_DATA"):
        mnist.load(small if way == "dir" else None)


def test_a_folder_that_is_absent_is_an_error_that_names_it(small, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}/nowhere .*lacks {TRAIN} and "):
        mnist.load(tmp_path / "nowhere")


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_one_changed_pixel_in_a_named_folder_is_refused_with_both_digests(small, pack):
    content = (small / TRAIN).read_bytes()
    content = content[:-1] + bytes([content[-1] ^ 1])
    (small / TRAIN).write_bytes(pack(content))
    with pytest.raises(ValueError, match=f"{hashlib.sha256(content).hexdigest()}, expected {mnist.SHA256[TRAIN]}"):
        mnist.load(small)


def test_two_files_in_each_others_place_are_refused(small):
    (small / TRAIN).write_bytes((small / "t10k-images-idx3-ubyte").read_bytes())
    with pytest.raises(ValueError, match="is not MNIST's train-images"):
        mnist.load(small)


def test_real_mnist_is_verified_and_loaded(mnist_dir):
    dataset = data.load("mnist", mnist_dir)
    assert dataset.train_x.shape == (60_000, 28, 28, 1) and dataset.test_x.shape == (10_000, 28, 28, 1)
    assert dataset.train_x.dtype == np.uint8 and dataset.shape == (28, 28, 1) and dataset.name == "mnist"
    assert np.bincount(dataset.train_y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.test_y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.train_x.mean() == pytest.approx(33.318421, abs=1e-6)
    assert dataset.train_y[:5].tolist() == [5, 0, 4, 1, 9]


# -- downloads --


class Mirror(http.server.ThreadingHTTPServer):
    """A mirror on 127.0.0.1 that serves a folder's files gzipped, in a good or a faulty way."""

    def __init__(self, folder, fault=None):
        self.folder, self.fault, self.asked = folder, fault, []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


    def handle_error(self, request, client_address):
        """A client that hung up is part of the tests."""


class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        name = self.path.strip("/").removesuffix(".gz")
        self.server.asked.append(name)
        content = (self.server.folder / name).read_bytes()
        body, fault = gzip.compress(content), self.server.fault
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if fault == "redirect loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if fault == "reset":  # linger 0: the connection is reset rather than closed
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if fault == "stall":
            time.sleep(1)  # and then all is well, but nobody waits any more
        self.send_response(200)
        if fault == "web page":
            body = b"<!DOCTYPE html><html>Please log in</html>"
        elif fault == "wrong content":
            body = gzip.compress(content[:-1] + bytes([content[-1] ^ 1]))
        elif fault == "truncated gzip":
            body = body[:-5]
        elif fault == "surplus":
            body += b"more"
        elif fault == "uncompressed":
            body = content
        elif fault == "unpacked on the way":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-7] if fault == "cut off" else body)


@pytest.fixture
def mirror(small, request):
    servers = []

    def start(fault=None):
        servers.append(Mirror(small, fault))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_a_download_is_verified_kept_in_the_cache_and_not_repeated(small, cache, mirror, monkeypatch):
    server = mirror()
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    first = mnist.load()
    assert names(cache / "mnist") == sorted(f"{stem}.gz" for stem in mnist.SHA256)
    assert server.asked == list(mnist.SHA256)
    for got, array, expected in zip(mnist.load(), first, mnist.load(small), strict=True):
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(array, expected)
    assert len(server.asked) == 4


FAULTS = [403, 404, 500, "redirect loop", "reset", "stall", "web page", "wrong content", "truncated gzip",
          "surplus", "cut off"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_mirror_is_passed_over_for_the_next(small, cache, mirror, monkeypatch, fault):
    bad, good = mirror(fault), mirror()
    monkeypatch.setattr(mnist, "MIRRORS", (bad.url, good.url))
    monkeypatch.setattr(mnist, "TIMEOUT", 0.3)
    for got, expected in zip(mnist.load(), mnist.load(small), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert bad.asked and good.asked == list(mnist.SHA256)
    assert names(cache / "mnist") == sorted(f"{stem}.gz" for stem in mnist.SHA256)


@pytest.mark.parametrize("fault", FAULTS)
def test_with_faulty_mirrors_alone_no_file_appears_and_a_sentence_helps(small, cache, mirror, monkeypatch, fault):
    bad = mirror(fault)
    monkeypatch.setattr(mnist, "MIRRORS", (bad.url, "http://127.0.0.1:9/"))
    monkeypatch.setattr(mnist, "TIMEOUT", 0.3)
    with pytest.raises(ValueError, match="could not be downloaded") as caught:
        mnist.load()
    assert names(cache / "mnist") == []
    message = str(caught.value)
    for part in (TRAIN, str(cache / "mnist"), bad.url, "http://127.0.0.1:9/", "--data-dir", "$NPAE_DATA"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("fault", ["uncompressed", "unpacked on the way"])
def test_a_mirror_that_unpacks_gives_the_right_content_all_the_same(small, cache, mirror, monkeypatch, fault):
    monkeypatch.setattr(mnist, "MIRRORS", (mirror(fault).url,))
    for got, expected in zip(mnist.load(), mnist.load(small), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_only_what_the_cache_lacks_or_has_damaged_is_fetched(small, cache, mirror, monkeypatch):
    server = mirror()
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    mnist.load()
    (cache / "mnist" / f"{LABELS}.gz").unlink()
    damaged = cache / "mnist" / f"{TRAIN}.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    server.asked.clear()
    mnist.load()
    assert server.asked == [TRAIN, LABELS]
    mnist.load()
    assert server.asked == [TRAIN, LABELS]


def test_a_damaged_unzipped_file_in_the_cache_does_not_cause_a_download_each_time(small, cache, mirror, monkeypatch):
    server = mirror()
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / TRAIN).write_bytes(b"damaged")
    mnist.load()
    mnist.load()
    assert len(server.asked) == 4


def test_a_cache_that_cannot_be_written_is_said_in_the_sentence(small, cache, mirror, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (mirror().url,))
    cache.write_text("a file where the folder should be")
    with pytest.raises(ValueError, match=r"Not a directory.*--data-dir or \$NPAE_DATA"):
        mnist.load()


def test_a_full_disk_leaves_no_file(small, cache, mirror, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (mirror().url,))

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left"):
        mnist.load()
    assert names(cache / "mnist") == []


def test_eight_downloads_at_once_end_with_four_good_files(small, cache, mirror, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (mirror().url,))
    results = []
    threads = [threading.Thread(target=lambda: results.append(mnist.load())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert names(cache / "mnist") == sorted(f"{stem}.gz" for stem in mnist.SHA256)


def test_the_digests_in_the_code_are_those_of_the_published_list(mnist_dir):
    listed = mnist_dir / "SHA256SUMS"
    if not listed.is_file():
        pytest.skip(f"{mnist_dir} has no SHA256SUMS to compare with")
    pairs = (line.split() for line in listed.read_text().splitlines())
    assert {name: digest for digest, name in pairs} == mnist.SHA256
