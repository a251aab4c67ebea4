"""A folder has one writer; who is killed locks nobody out."""
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from npae import runs, store
from npae.cli import main
from npae.store import lock

pytest.importorskip("fcntl", reason="the lock is POSIX's")

HOLD = """
import sys
from npae import store
with store.one_writer(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path until it is told to let go."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def words(process, folder):
    return f"{folder} is being written by process {process.pid}: wait until it has ended, or choose another folder"


def test_a_second_writer_is_refused_with_the_name_of_the_first(holder, tmp_path):
    with pytest.raises(BlockingIOError) as caught, store.one_writer(tmp_path):
        pytest.fail("there were two")
    assert str(caught.value) == words(holder, tmp_path)
    holder.communicate("")
    with store.one_writer(tmp_path):
        assert (tmp_path / store.LOCK).read_text() == f"{os.getpid()}\n"
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_leaves_locks_nobody_out(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / store.LOCK).read_text() == f"{holder.pid}\n"
    with store.one_writer(tmp_path):
        assert (tmp_path / store.LOCK).read_text() == f"{os.getpid()}\n"
    assert not list(tmp_path.iterdir())


def test_a_lock_of_a_process_whose_number_lives_again_is_no_lock(tmp_path):
    (tmp_path / store.LOCK).write_text(f"{os.getpid()}\n4194304 and more\n")
    with store.one_writer(tmp_path):
        assert (tmp_path / store.LOCK).read_text() == f"{os.getpid()}\n"


def test_one_process_is_no_two_writers_either(tmp_path):
    with store.one_writer(tmp_path):
        with pytest.raises(BlockingIOError, match=f"by process {os.getpid()}"), store.one_writer(tmp_path):
            pass
        with pytest.raises(BlockingIOError), store.one_writer(tmp_path):
            pass
    with store.one_writer(tmp_path):
        pass


def test_the_lock_is_let_go_when_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), store.one_writer(tmp_path):
        raise ZeroDivisionError
    with store.one_writer(tmp_path):
        pass


def test_a_lock_on_a_file_that_is_no_more_there_is_none(tmp_path, monkeypatch):
    """The holder ends, and another begins, between the opening of the file and its locking."""
    path, right, calls = tmp_path / store.LOCK, lock.fcntl.flock, []

    def flock(file, how):
        calls.append(1)
        if len(calls) < 3:
            path.unlink()
        if len(calls) == 1:
            path.write_text("of another")
        right(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with store.one_writer(tmp_path):
        assert path.read_text() == f"{os.getpid()}\n" and len(calls) == 3


def test_of_many_who_come_at_once_one_writes_at_a_time(tmp_path):
    """Eight threads, each of which tries until it has been in 25 times; the file comes and goes under their hands."""
    inside, seen = [], []

    def worker():
        done = 0
        while done < 25:
            try:
                with store.one_writer(tmp_path):
                    inside.append(1)
                    seen.append(len(inside))
                    inside.pop()
                    done += 1
            except BlockingIOError:
                pass

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 200 and not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), store.one_writer(tmp_path / "nowhere"):
        pass


# -- runs --


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "few.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (24, 4, 4), np.uint8))
    return path


def test_a_training_into_a_folder_that_is_being_written_is_refused_and_takes_nothing(holder, tmp_path, few, capsys):
    assert main(["train", "ae", "--data", str(few), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"npae: {words(holder, tmp_path)}\n"
    store.write_json(tmp_path / "config.json", {
        "recipe": "ae", "data": str(few), "data_dir": None, "seed": 0,
        "settings": runs.start.recipes.get("ae").parse({"validation": "0"})})
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"npae: {words(holder, tmp_path)}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", store.LOCK}


def test_a_folder_that_another_run_has_filled_meanwhile_is_not_written_over(tmp_path, few, monkeypatch):
    """It was empty when it was looked at, and is not when the lock is there."""
    right = store.one_writer

    def one_writer(folder):
        (folder / "config.json").write_text("another's")
        return right(folder)

    monkeypatch.setattr(store, "one_writer", one_writer)
    with pytest.raises(ValueError, match="is not empty: choose another --out"):
        runs.run("ae", data=str(few), out=tmp_path)
    assert (tmp_path / "config.json").read_text() == "another's"


def test_two_that_want_the_same_new_folder_get_one_each(tmp_path, few, monkeypatch):
    monkeypatch.chdir(tmp_path)
    right = runs.folder.Path.mkdir

    def mkdir(self, *args, **settings):
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        right(self, *args, **settings)  # another process is a moment faster
        right(self, *args, **settings)

    monkeypatch.setattr(runs.folder.Path, "mkdir", mkdir)
    assert runs.folder.new_folder(None, "ae") == (runs.folder.Path("runs/ae-2"), [runs.folder.Path("runs/ae-2")])


def test_the_names_of_new_folders_are_on_the_disk_before_anything_is_saved_in_them(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(store, "sync_folder", synced.append)
    folder, made = runs.folder.new_folder(tmp_path / "a" / "b", "")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    with runs.folder.written(folder, made):
        assert synced == [tmp_path / "a", tmp_path]


def test_a_training_that_fails_takes_the_folders_away_that_were_made_for_it(tmp_path, few, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("npae.train.fit", None)
    with pytest.raises(TypeError):
        runs.run("ae", data=str(few), out=tmp_path / "a" / "b" / "c")
    assert not list((tmp_path / "a").iterdir())
