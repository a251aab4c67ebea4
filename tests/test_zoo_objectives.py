"""Bugs planted in losses, penalties and models: the protocol finds each by the parts that have to see it, and finds
nothing where nothing was planted."""
import numpy as np
import pytest

from npae.gradcheck.facts import Facts
from npae.kernels import fast, reference
from npae.lab.planting import lines, planted
from npae.lab.subjects import losses, models, parts, penalties
from npae.lab.subjects.problem import NoiseOf
from npae.lab.zoo import latent
from npae.lab.zoo import losses as loss_bugs
from npae.lab.zoo import models as model_bugs
from npae.lab.zoo import penalties as penalty_bugs

SUBJECTS = {**losses.SUBJECTS, **penalties.SUBJECTS, **models.SUBJECTS}
ROOMS = (loss_bugs, penalty_bugs, latent, model_bugs)
BUGS = {f"{bug.subject}: {bug.name}": bug for room in ROOMS for bug in room.BUGS}
LETTERS = {"gradient": "G", "state": "S", "reference": "R", "batch": "B", "moments": "M"}
EVERYDAY = (
    "Bernoulli: sum_over_batch_backward", "Gaussian: pi_forgotten", "gaussian_kl: float64_leaks",
    "contractive: slope_not_squared_consistent", "reparameterize: noise_drawn_in_backward",
    "IWAE: pictures_repeated_in_place", "DenoisingAutoencoder: pepper_alone", "Autoencoder: dy_of_the_first_loss",
)


def seen_by(report):
    """Letters of the parts of the protocol that failed."""
    rows = {"G"} if any(not row.ok for row in report.rows) else set()
    return rows | {LETTERS[line.part] for line in report.lines if line.status == "FAIL"}


def assert_found(name):
    bug = BUGS[name]
    with planted(bug):
        report = SUBJECTS[bug.subject](reference)
    assert not report.ok
    assert seen_by(report) >= set(bug.killed_by), report.wrong


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_right_subject_is_green(name):
    report = SUBJECTS[name](reference)
    assert report.ok, report
    assert report.rows and {line.part for line in report.lines} >= {"reference", "state"}


@pytest.mark.parametrize("name", EVERYDAY)
def test_a_planted_bug_is_found_by_the_parts_that_have_to_see_it(name):
    assert_found(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_every_planted_bug_is_found_by_the_parts_that_have_to_see_it(name):
    assert_found(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_right_subject_is_green_on_the_fast_kernels(name):
    report = SUBJECTS[name](fast)
    assert report.ok, report


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_fits_into_the_source_and_changes_it(name):
    bug = BUGS[name]
    shown = lines(bug)
    with planted(bug):
        pass
    removed, added = ([line[1:].strip() for line in shown if line.startswith(sign)] for sign in "-+")
    assert removed != added and removed
    assert bug.subject in SUBJECTS
    assert bug.killed_by and set(bug.killed_by) <= set(LETTERS.values())
    assert bug.did.endswith(".")


def test_no_two_bugs_are_the_same():
    assert len(BUGS) == sum(len(room.BUGS) for room in ROOMS) >= 75
    assert len({bug.edits for bug in BUGS.values()}) == len(BUGS)
    assert all(reason for room in ROOMS for reason in room.NOT_HERE.values())


def test_noise_stays_with_its_picture():
    whole = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(NoiseOf(5, range(5)).standard_normal((5, 3)), whole)
    np.testing.assert_array_equal(NoiseOf(5, [4, 1]).standard_normal((2, 3)), whole[[4, 1]])
    samples = np.random.default_rng(0).random((2, 5, 3))
    np.testing.assert_array_equal(NoiseOf(5, [3]).random((2, 3)), samples[:, 3])


def test_a_difference_is_told_with_what_explains_it():
    want = np.array([1.0, 2.0])
    assert not parts.differs("y", want * (1 + 1e-12), want)
    assert "y is off by 4.0e+00: y has the wrong sign" in parts.differs("y", -want, want, Facts())
    assert parts.differs("y", [1.0, np.nan], want)
    assert parts.differs("y", [np.inf, 2.0], want)
    assert parts.differs("y", [1.0], want) == "y has shape (1,), the reference (2,)"
    small = np.array([1.0, 1e-20])
    assert not parts.differs("y", [1.0, 2e-20], small)
    assert parts.differs("y", [1.0, 2e-20], small, each=True)


def test_a_mean_may_be_five_standard_errors_off():
    assert not parts.off_the_mean("z", 0.49, 0, 0.1)
    assert parts.off_the_mean("z", 0.51, 0, 0.1) == "z has the mean 0.51, 5 standard errors from 0"
    assert parts.off_the_mean("z", float("nan"), 0, 0.1)


def test_a_check_that_raises_is_a_report_too():
    def raises():
        raise IndexError("out of bounds")

    report = parts.report("Check of nothing", raises, [])
    (wrong,) = report.wrong
    assert wrong.startswith("not so: forward and backward run (raised IndexError at ")
    assert wrong.endswith("out of bounds)")
    assert seen_by(report) == {"G"}
