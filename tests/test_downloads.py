"""Downloads from mirrors that misbehave in every way, five times each: another of the four files, another place of it.
A file gets its final name with the right SHA-256 or not at all, the next mirror is asked, and the message says how to
go on by hand. All mirrors are on 127.0.0.1.
"""
import errno
import gzip
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from test_mnist import Answer, Mirror, names, small  # noqa: F401

from npae import store
from npae.data import mnist

TIMES = 5


def status(code):
    def act(answer, body, share):
        answer.send_error(code)

    return act


def sent(answer, body, length=None):
    """A whole answer of its own length, or of one that it only claims."""
    answer.send_response(200)
    answer.send_header("Content-Length", str(len(body) if length is None else length))
    answer.end_headers()
    answer.wfile.write(body)


def web_page(answer, body, share):
    sent(answer, b"<!DOCTYPE html><html>Please log in</html>" * (1 + int(99 * share)))


def redirect_loop(answer, body, share):
    answer.send_response(302)
    answer.send_header("Location", answer.path + "?" * (share > 0.5))
    answer.end_headers()


def truncated(answer, body, share):
    """The claimed length is that of what is sent, so that only the content can show it."""
    sent(answer, body[:int(share * (len(body) - 1))])


def hung_up(answer, body, share):
    sent(answer, body[:int(share * (len(body) - 1))], len(body))


def wrong_length(answer, body, share):
    """It claims less than it sends: a client reads as much as was claimed."""
    sent(answer, body, int(share * (len(body) - 1)))


def wrong_content(answer, body, share):
    content = bytearray(gzip.decompress(body))
    content[int(share * (len(content) - 1))] ^= 1
    sent(answer, gzip.compress(bytes(content)))


def another_file(answer, body, share):
    other = [stem for stem in mnist.SHA256 if stem not in answer.path][int(2.99 * share)]
    sent(answer, gzip.compress((answer.server.folder / other).read_bytes()))


def reset(answer, body, share):
    """linger 0: the connection is reset rather than closed."""
    answer.send_response(200)
    answer.send_header("Content-Length", str(len(body)))
    answer.end_headers()
    answer.wfile.write(body[:int(share * (len(body) - 1))])
    answer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answer.connection.close()


def stalled(answer, body, share):
    answer.send_response(200)
    answer.send_header("Content-Length", str(len(body)))
    answer.end_headers()
    answer.wfile.write(body[:int(share * (len(body) - 1))])
    answer.server.given_up.wait(60)


def dripping(answer, body, share):
    """Never silent for long, and never done."""
    answer.send_response(200)
    answer.end_headers()
    while not answer.server.given_up.wait(0.02):
        answer.wfile.write(b"\x1f" * 256)


def endless(answer, body, share):
    answer.send_response(200)
    answer.end_headers()
    answer.wfile.write(body)
    while not answer.server.given_up.is_set():
        answer.wfile.write(bytes(1 << 14))


def nonsense(answer, body, share):
    answer.wfile.write(os.urandom(100).replace(b"\n", b"") + b"\r\n\r\n")
    answer.close_connection = True


MIRRORS = {"403": status(403), "404": status(404), "500": status(500), "web page": web_page,
           "redirect loop": redirect_loop, "truncated": truncated, "hung up": hung_up, "wrong length": wrong_length,
           "wrong content": wrong_content, "another file": another_file, "reset": reset, "stalled": stalled,
           "dripping": dripping, "endless": endless, "nonsense": nonsense}


class Bad(Mirror):
    """Good, but for one of the four files."""

    def __init__(self, folder, fault, stem, share):
        self.bad, self.stem, self.share, self.given_up = fault, stem, share, threading.Event()
        super().__init__(folder)
        self.RequestHandlerClass = OneBad


class OneBad(Answer):
    def do_GET(self):
        if self.server.stem not in self.path:
            super().do_GET()
            return
        stem = self.path.strip("/?").removesuffix(".gz")
        self.server.asked.append(stem)
        body = gzip.compress((self.server.folder / stem).read_bytes())
        try:
            self.server.bad(self, body, self.server.share)
        except OSError:  # the client has hung up, as it should
            self.close_connection = True


@contextmanager
def served(*mirrors):
    try:
        yield [mirror.url for mirror in mirrors]
    finally:
        for mirror in mirrors:
            if isinstance(mirror, Bad):
                mirror.given_up.set()
            mirror.shutdown()
            mirror.server_close()


SHORT = {"stalled": ("TIMEOUT", 0.2), "dripping": ("PATIENCE", 0.2)}


def no_wrong_file(folder, missing=()):
    """Each of the four files has the right content, but for those that are missing; and nothing else is there."""
    assert names(folder) == sorted(f"{stem}.gz" for stem in mnist.SHA256 if stem not in missing)
    for file in folder.iterdir():
        content = gzip.decompress(file.read_bytes())
        assert hashlib.sha256(content).hexdigest() == mnist.SHA256[file.name.removesuffix(".gz")]


@pytest.mark.parametrize("i", range(TIMES))
@pytest.mark.parametrize("fault", MIRRORS)
def test_a_faulty_mirror_gives_no_wrong_file(fault, i, small, cache, monkeypatch):  # noqa: F811
    """Alone it ends in a sentence; before a good one it is passed over."""
    monkeypatch.setattr(mnist, "MOST_BYTES", 1 << 16)
    stem = list(mnist.SHA256)[i % 4]
    bad, good = Bad(small, MIRRORS[fault], stem, i / (TIMES - 1)), Mirror(small)
    with served(bad, good) as (bad_url, good_url):
        monkeypatch.setattr(mnist, "MIRRORS", (bad_url, "http://127.0.0.1:9/"))
        with pytest.raises(ValueError, match=r"could not be downloaded from .* nor from ") as caught, \
                monkeypatch.context() as patch:
            if fault in SHORT:
                patch.setattr(mnist, *SHORT[fault])
            mnist.load()
        if fault in SHORT:
            bad.given_up.set()  # what went on for ever ends too early from now on
        for part in (stem, str(cache / "mnist"), bad_url, "http://127.0.0.1:9/", "--data-dir", "$NPAE_DATA"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
        there = list(mnist.SHA256)[:i % 4]
        no_wrong_file(cache / "mnist", set(mnist.SHA256) - set(there))
        monkeypatch.setattr(mnist, "MIRRORS", (bad_url, good_url))
        for got, expected in zip(mnist.load(), mnist.load(small), strict=True):
            np.testing.assert_array_equal(got, expected)
        no_wrong_file(cache / "mnist")
        assert good.asked == [stem], "the mirrors are asked in their order, and the good one for what is missing alone"


@pytest.mark.parametrize("share", np.linspace(0, 1, 20))
def test_a_file_cut_at_any_of_twenty_places_is_not_taken(share, small, cache, monkeypatch):  # noqa: F811
    with served(Bad(small, truncated, "train-images", share)) as urls:
        monkeypatch.setattr(mnist, "MIRRORS", urls)
        with pytest.raises(ValueError, match="could not be downloaded"):
            mnist.load()
    assert names(cache / "mnist") == []


@pytest.mark.parametrize("i", range(TIMES))
def test_a_mirror_that_is_only_slow_is_waited_for(i, small, cache, monkeypatch):  # noqa: F811
    def slow(answer, body, share):
        answer.send_response(200)
        answer.send_header("Content-Length", str(len(body)))
        answer.end_headers()
        for k in range(0, len(body), 20):
            answer.wfile.write(body[k:k + 20])
            time.sleep(0.005 * (1 + i))

    with served(Bad(small, slow, "idx", 0)) as urls:
        monkeypatch.setattr(mnist, "MIRRORS", urls)
        for got, expected in zip(mnist.load(), mnist.load(small), strict=True):
            np.testing.assert_array_equal(got, expected)
    no_wrong_file(cache / "mnist")


def test_an_answer_that_takes_too_long_in_all_is_given_up_and_what_the_dead_left_is_removed(
        small, cache, monkeypatch):  # noqa: F811
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    orphan = cache / "mnist" / f".npae-{store.files.HOST}-{dead.pid}-00.tmp"
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    with served(Mirror(small)) as urls, monkeypatch.context() as patch:
        monkeypatch.setattr(mnist, "MIRRORS", urls)
        patch.setattr(mnist, "PATIENCE", -1)
        with pytest.raises(ValueError, match="its answer takes longer than -1 s"):
            mnist.load()
    assert names(cache / "mnist") == [] and not orphan.exists()


@pytest.mark.parametrize("mirror", ["http://127.0.0.1:9/", "http://nowhere.invalid/", "http://[::1]:9/",
                                    "http://127.0.0.1:9:9/", "gopher://127.0.0.1/"])
def test_without_a_network_the_sentence_says_what_to_do(mirror, small, cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(mnist, "MIRRORS", (mirror,))
    with pytest.raises(ValueError, match=r"could not be downloaded from .*--data-dir or \$NPAE_DATA"):
        mnist.load()
    assert names(cache / "mnist") == []


@pytest.mark.parametrize("room", [0, 1, 5, 10, 20])
def test_a_full_disk_leaves_the_earlier_files_and_no_other(room, small, cache, monkeypatch):  # noqa: F811
    """So many bytes may still be written to a file; the first two files are there already."""
    resource = pytest.importorskip("resource", reason="sizes are limited with the module resource")
    stems = list(mnist.SHA256)
    with served(Mirror(small)) as urls:
        monkeypatch.setattr(mnist, "MIRRORS", urls)
        mnist.load()
        for stem in stems[2:]:
            (cache / "mnist" / f"{stem}.gz").unlink()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # Python ignores SIGXFSZ: writing is an OSError
        try:
            with pytest.raises(ValueError, match=f"could not be downloaded from .*{os.strerror(errno.EFBIG)}"):
                mnist.load()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        no_wrong_file(cache / "mnist", stems[2:])
        mnist.load()
    no_wrong_file(cache / "mnist")


@pytest.mark.parametrize("kind", ["a file", "in a file", "no such device", "a loop", "too long a name"])
def test_a_cache_that_cannot_be_written_is_said(kind, small, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    place = {"a file": tmp_path / "file", "in a file": tmp_path / "file" / "cache", "no such device": "/proc/a/cache",
             "a loop": tmp_path / "loop" / "cache", "too long a name": tmp_path / ("x" * 300)}[kind]
    monkeypatch.setenv("NPAE_CACHE", str(place))
    with served(Mirror(small)) as urls:
        monkeypatch.setattr(mnist, "MIRRORS", urls)
        with pytest.raises(ValueError, match=r"nothing can be kept there \(.*\): .*--data-dir or \$NPAE_DATA"):
            mnist.load()
    assert (tmp_path / "file").read_text() == "mine"
