"""Optimizers against numbers from mpmath, schedules, clipping, and continuation to the bit."""
import json
import math

import numpy as np
import pytest

from npae.kernels import fast_training, reference_training
from npae.optim import (
    SGD,
    Adam,
    AdamW,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    Momentum,
    RMSprop,
    StepDecay,
    clip_global_norm,
)

both_modules = pytest.mark.parametrize("K", [pytest.param(reference_training, id="reference"),
                                             pytest.param(fast_training, id="fast")])
MAKERS = {
    "SGD": lambda **more: SGD(0.01, **more),
    "Momentum": lambda **more: Momentum(0.01, **more),
    "RMSprop": RMSprop,
    "Adam": Adam,
    "AdamW": AdamW,
}
every_optimizer = pytest.mark.parametrize("name", MAKERS)

# theta after steps 1, 10 and 50 of the problem in `gradient`, at the default settings (SGD, Momentum: lr 0.01).
# Made with mpmath at 60 digits from the update rules as the papers print them (rates as the nearest doubles, nothing
# flushed), and met by PyTorch 2.13.0 in float64 (SGD, RMSprop, Adam, AdamW of torch.optim) to 3e-15 relative.
GOLDEN = {
    "SGD": {
        1: [0.99, -0.51, 1.25e-28, -24999999.75, -6.25e-10],
        10: [0.9134453369543618, -0.48004174187003557, -2.375e-27, -199999999.75, -3e-09],
        50: [0.650955474540463, -0.39439134762793576, -1.2375000000000001e-26, -1187499999.75, -1.275e-08],
    },
    "Momentum": {
        1: [0.99, -0.51, 1.25e-28, -24999999.75, -6.25e-10],
        10: [0.6515629315834011, -0.459445030590816, -8.280524857625001e-27, -755776768.225, -1.1518339175625e-08],
        50: [0.07544710758361613, -0.006517581016070695, -1.0071367793126411e-25, -9865764890.707594,
             -1.0334903601733485e-07],
    },
    "RMSprop": {
        1: [0.9968377233398313, -0.5031622766601687, 1.2500000000000001e-22, 0.24683772233983162,
            -0.0005218586317004724],
        10: [0.9834204555941168, -0.4979692769736533, -2.3750000000000002e-21, 0.24249613560566638,
             -0.0022531697557259768],
        50: [0.9431570762470184, -0.48619296889278124, -1.2375000000000002e-20, 0.22131854591470404,
             -0.008863819147417512],
    },
    "Adam": {
        1: [0.99900000001, -0.50099999999, 1.2500000000000001e-21, 0.249, -0.0008620689655172414],
        10: [0.9902015746368286, -0.5005726841476525, -1.8649150721287875e-20, 0.2454647108168158,
             -0.0049600587356139906],
        50: [0.9518333669006342, -0.4891305411127858, -1.1885563738836366e-19, 0.22389131431422316,
             -0.02242124316819738],
    },
    "AdamW": {
        1: [0.99899000001, -0.50099499999, 1.2500000000000001e-21, 0.2489975, -0.0008620689655172414],
        10: [0.9901020725384392, -0.5005226255524822, -1.8648386832644497e-20, 0.2454399171371182,
             -0.004959826981529896],
        50: [0.9513491863072162, -0.48888501475933605, -1.1882797221439142e-19, 0.22377258633089184,
             -0.022415614885062555],
    },
}


def gradient(theta, t):
    """Two pulls to a target and three plain sequences, with gradients from 1e-26 to 1e10; t counts from 1."""
    pull, target = np.array([1, 0.5, 0, 0, 0]), np.array([0.25, 1, 0, 0, 0])
    wave = (7 * t + 3 * np.arange(5)) % 11 - 3
    return pull * (theta - target) + np.array([0.5, 2, 1e-25, 1e10, 1e-7]) * wave / 8


def start(dtype=np.float64):
    return np.array([1, -0.5, 0, 0.25, 0], dtype)


def walk(optimizer, theta, steps):
    for t in steps:
        optimizer.step(theta, gradient(theta, t).astype(theta.dtype))
    return theta


@both_modules
@every_optimizer
def test_fifty_steps_meet_the_golden_numbers(K, name):
    optimizer, theta = MAKERS[name](kernels=K), start()
    for t in range(1, 51):
        walk(optimizer, theta, [t])
        if t in GOLDEN[name]:
            np.testing.assert_allclose(theta, GOLDEN[name][t], rtol=1e-12, atol=0)


@both_modules
@every_optimizer
def test_float32_follows_float64_and_keeps_its_dtype(K, name):
    theta = walk(MAKERS[name](kernels=K), start(np.float32), range(1, 51))
    assert theta.dtype == np.float32
    np.testing.assert_allclose(theta, GOLDEN[name][50], rtol=2e-5, atol=1e-7)


@every_optimizer
def test_without_kernels_the_fast_ones_are_used(name):
    assert np.array_equal(walk(MAKERS[name](), start(), [1, 2]),
                          walk(MAKERS[name](kernels=fast_training), start(), [1, 2]))


def test_adamw_without_decay_is_adam_and_with_it_decays_every_entry():
    zero = np.zeros(5)
    plain, without, decayed = start(), start(), start()
    for t in range(1, 6):
        for theta, optimizer in ((plain, Adam()), (without, AdamW(decay=0))):
            optimizer.step(theta, gradient(theta, t))
    AdamW(lr=0.5, decay=0.1).step(decayed, zero)
    assert np.array_equal(plain, without)
    np.testing.assert_allclose(decayed, 0.95 * start(), rtol=1e-15)


# -- state --


@both_modules
@every_optimizer
@pytest.mark.parametrize("before", [0, 1, 13])
def test_a_restored_optimizer_continues_to_the_bit(K, name, before):
    schedule = LinearWarmup(5, CosineDecay(0.01, 30))
    optimizer = MAKERS[name](kernels=K)
    optimizer.lr = schedule
    theta = walk(optimizer, start(np.float32), range(1, before + 1))
    kept, saved = theta.copy(), optimizer.state()
    walk(optimizer, theta, range(before + 1, 21))
    again = MAKERS[name](kernels=K)
    again.lr = schedule
    again.restore(saved)
    assert np.array_equal(walk(again, kept, range(before + 1, 21)), theta)
    assert again.steps == optimizer.steps == 20


def test_state_and_restore_copy():
    optimizer, theta = Adam(), start()
    walk(optimizer, theta, [1])
    saved = optimizer.state()
    before = saved["m"].copy()
    walk(optimizer, theta, [2])
    assert np.array_equal(saved["m"], before) and saved["steps"] == 1
    again = Adam()
    again.restore(saved)
    walk(again, start(), [2])
    assert np.array_equal(saved["m"], before)


def test_a_rate_that_was_changed_comes_back_and_one_of_a_schedule_is_the_schedules():
    changed, again = Adam(0.1), Adam(0.1)
    walk(changed, start(), [1])
    changed.lr = 0.025  # what a callback does that waits for a plateau
    again.restore(changed.state())
    assert again.learning_rate() == 0.025 and again.moments["m"].ctypes.data % 64 == 0
    scheduled = Adam(StepDecay(0.1, 0.5, 1))
    assert scheduled.state() == {"steps": 0, "lr": None}
    for one, other in ((scheduled, again), (again, scheduled)):
        kept = vars(one).copy()
        with pytest.raises(ValueError, match="restore into an optimizer with a schedule where there was one"):
            one.restore({**other.state(), "steps": 0} if one is again else other.state())
        assert vars(one) == kept
    with pytest.raises(ValueError, match="lr must be finite and at least 0, got -1"):
        Adam().restore({"steps": 0, "lr": -1.0})


@pytest.mark.parametrize("state", [{"steps": 3}, {"steps": 3, "m": np.zeros(5)}, {"m": np.zeros(5)}, {},
                                   {"steps": 0}, {"steps": 3, "m": np.zeros(5), "v": np.zeros(5)},
                                   {"steps": 3, "lr": 0.1, **dict.fromkeys(("m", "v", "velocity"), np.zeros(5))}])
def test_a_state_of_another_optimizer_is_refused(state):
    with pytest.raises(ValueError, match="another optimizer's state"):
        Adam().restore(state)


@every_optimizer
def test_config_is_json_and_makes_the_optimizer_again(name):
    config = json.loads(json.dumps(MAKERS[name](clip_norm=2).config()))
    assert config.pop("optimizer") == name and config["clip_norm"] == 2
    assert type(MAKERS[name]())(**config).config() == {"optimizer": name, **config}


def test_config_shows_a_schedule():
    config = Adam(LinearWarmup(5, CosineDecay(0.01, 30))).config()
    assert config["lr"] == {"schedule": "LinearWarmup", "steps": 5,
                            "then": {"schedule": "CosineDecay", "lr": 0.01, "steps": 30, "end": 0.0}}
    assert SGD(abs).config()["lr"] == {"schedule": "abs"}
    assert SGD(CosineDecay).config()["lr"] == {"schedule": "CosineDecay"}  # the class: any callable is a schedule
    assert json.dumps(config)


# -- schedules --


def test_a_schedule_is_asked_for_the_step_from_zero():
    asked = []
    optimizer, theta = SGD(lambda step: asked.append(step) or 10.0**-step), np.zeros(1)
    for _ in range(3):
        optimizer.step(theta, np.ones(1))
    assert asked == [0, 1, 2]
    assert theta[0] == pytest.approx(-1.11, rel=1e-15)


def test_schedules_have_the_values_of_their_formulas():
    assert [ExponentialDecay(2.0, 0.25, 10)(s) for s in (0, 5, 10, 20)] == pytest.approx([2, 1, 0.5, 0.125])
    assert [StepDecay(2.0, 0.1, 10)(s) for s in (0, 9, 10, 25)] == pytest.approx([2, 2, 0.2, 0.02])
    cosine = CosineDecay(3.0, 12, end=1.0)
    assert [cosine(s) for s in (0, 4, 6, 8, 12, 99)] == pytest.approx([3, 2.5, 2, 1.5, 1, 1])
    warm = LinearWarmup(4, StepDecay(1.0, 0.5, 2))
    assert LinearWarmup(1, ExponentialDecay(1.0, 0.5, 1))(1) == 1  # `then` counts from 0
    assert [warm(s) for s in range(8)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5])


# -- clipping --


@both_modules
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one(K, dtype):
    grad = np.array([3, 4], dtype)
    assert clip_global_norm(grad, 5.0, K) == 5 and grad.tolist() == [3, 4]
    assert clip_global_norm(grad, 10.0, K) == 5 and grad.tolist() == [3, 4]
    assert clip_global_norm(grad.copy(), 4.99, K) == 5
    for limit in (4.99, 0.5):
        shortened = grad.copy()
        clip_global_norm(shortened, limit, K)
        assert math.hypot(*shortened) == pytest.approx(limit, rel=3 * float(np.finfo(dtype).eps))
    assert clip_global_norm(grad, 0.5, K) == 5
    np.testing.assert_allclose(grad, [0.3, 0.4], rtol=3 * np.finfo(dtype).eps)
    assert grad.dtype == dtype


@pytest.mark.parametrize("limit", [0, -1.0, np.nan])
def test_a_length_that_is_not_above_0_is_no_limit(limit):
    with pytest.raises(ValueError, match="can be clipped to a length above 0, got"):
        clip_global_norm(np.ones(3), limit)


@every_optimizer
def test_an_optimizer_clips_before_it_steps(name):
    clipped, plain = start(), start()
    grad = np.array([3.0, 0, 0, 4, 0])
    MAKERS[name](clip_norm=1).step(clipped, grad)
    assert math.hypot(*grad) == pytest.approx(1, rel=1e-15)
    MAKERS[name]().step(plain, np.array([0.6, 0, 0, 0.8, 0]))
    np.testing.assert_allclose(clipped, plain, rtol=1e-15)


@every_optimizer
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_norm_that_is_not_finite_is_an_error_that_changes_nothing(name, bad):
    optimizer, theta, grad = MAKERS[name](clip_norm=1.0), start(), np.array([1.0, bad, 1, 1, 1])
    with pytest.raises(ValueError, match=r"norm is (nan|inf) where at most 1.0"):
        optimizer.step(theta, grad)
    assert np.array_equal(theta, start()) and grad[0] == 1 and set(optimizer.state()) == {"steps", "lr"}
    assert optimizer.steps == 0


# -- errors --


@every_optimizer
@pytest.mark.parametrize("theta, grad, message", [
    (np.zeros(3), np.zeros(4), r"theta is float64 \(3,\) but grad float64 \(4,\)"),
    (np.zeros(3), np.zeros(1), r"\(3,\).*\(1,\)"),
    (np.zeros(3), np.zeros(3, np.float32), "float64.*float32"),
    (np.zeros((3, 1)), np.zeros((3, 1)), r"flat.*\(3, 1\)"),
    (np.zeros(3, int), np.zeros(3, int), "int64"),
    (np.zeros(6)[::2], np.zeros(3), "contiguous.*16.*8"),
    (np.zeros(3), np.zeros(6)[::2], "contiguous.*8.*16"),
])
def test_vectors_that_do_not_fit_are_refused(name, theta, grad, message):
    with pytest.raises(ValueError, match=message):
        MAKERS[name]().step(theta, grad)


@pytest.mark.parametrize("name", ["Momentum", "RMSprop", "Adam", "AdamW"])
def test_moments_belong_to_one_model(name):
    optimizer = MAKERS[name]()
    optimizer.step(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"float64 \(3,\) but theta is float64 \(4,\): make a new optimizer"):
        optimizer.step(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"float64.*float32"):
        optimizer.step(np.zeros(3, np.float32), np.zeros(3, np.float32))


@pytest.mark.parametrize("make, message", [
    (lambda: SGD(-0.1), "lr must be finite and at least 0, got -0.1"),
    (lambda: Adam(math.nan), "lr"),
    (lambda: Adam(math.inf), "lr"),
    (lambda: Momentum(0.1, momentum=1.0), "momentum.*1.0"),
    (lambda: RMSprop(rho=-0.1), "rho"),
    (lambda: RMSprop(rho=1.0), "rho.*1.0"),
    (lambda: RMSprop(eps=0), "eps"),
    (lambda: Adam(beta1=1), "beta1"),
    (lambda: Adam(beta2=1.0), "beta2.*1.0"),
    (lambda: Adam(beta2=1.5), "beta2"),
    (lambda: Adam(eps=0), "eps"),
    (lambda: AdamW(decay=-1), "decay"),
    (lambda: Adam(clip_norm=0), "clip_norm"),
    (lambda: clip_global_norm(np.ones(2), -1.0), "above 0, got -1.0"),
    (lambda: SGD(lambda step: math.nan).step(np.zeros(1), np.zeros(1)), "lr.*nan"),
])
def test_settings_without_a_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mean_that_forgets_at_once_is_a_setting_too():
    """momentum 0 is SGD; rho 0 and both betas 0 look at the latest gradient alone."""
    grad, sgd, momentum = np.array([3.0, -0.5]), np.ones(2), np.ones(2)
    SGD(0.1).step(sgd, grad)
    Momentum(0.1, momentum=0).step(momentum, grad)
    assert np.array_equal(momentum, sgd)
    for optimizer in (RMSprop(0.1, rho=0), Adam(0.1, beta1=0, beta2=0)):
        theta = np.ones(2)
        optimizer.step(theta, grad.copy())
        np.testing.assert_allclose(theta, 1 - 0.1 * np.sign(grad), rtol=1e-6)


def test_numbers_of_numpy_become_pythons_own():
    """They come from arrays and files, and go into JSON."""
    optimizer = AdamW(np.float32(0.5), np.float32(0.5), clip_norm=np.float32(2), decay=np.float32(0.25))
    assert {type(value) for key, value in optimizer.config().items() if key != "optimizer"} == {float}
    assert type(SGD(np.float32(0.5)).learning_rate()) is type(SGD(np.float32).learning_rate()) is float
    optimizer.restore({"steps": np.array(3), "lr": np.float32(0.5), "m": np.zeros(2), "v": np.zeros(2)})
    assert type(optimizer.state()["steps"]) is int
