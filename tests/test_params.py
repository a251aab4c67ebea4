"""Parameters and the two flat vectors that they become views of."""
import numpy as np
import pytest

from npae.layers import Dense, Sequential, TiedDense
from npae.params import Param, pack, unique


def three(dtype=np.float32):
    return [Param("W", np.arange(6, dtype=dtype).reshape(2, 3) + 1), Param("b", np.full(3, 7, dtype)),
            Param("c", np.full(17, 9, dtype))]


def test_packing_keeps_values_and_gradients_and_makes_them_views():
    params = three()
    params[1].grad[...] = 5
    theta, grad = pack(params)
    assert theta.shape == grad.shape == (16 + 16 + 32,) and theta.dtype == grad.dtype == np.float32
    assert np.array_equal(params[0].value, [[1, 2, 3], [4, 5, 6]]) and (params[1].grad == 5).all()
    for p in params:
        assert np.shares_memory(p.value, theta) and np.shares_memory(p.grad, grad) and p.packed
        assert p.value.flags.c_contiguous and p.value.ctypes.data % theta.itemsize == 0
    theta *= 2
    grad[...] = 3
    assert (params[2].value == 18).all() and (params[0].grad == 3).all()


def test_every_tensor_starts_at_a_multiple_of_align_and_the_gaps_are_zero():
    params = three(np.float64)
    theta, _ = pack(params, align=4)
    starts = [(p.value.ctypes.data - theta.ctypes.data) // 8 for p in params]
    assert starts == [0, 8, 12] and theta.size == 12 + 20
    assert np.flatnonzero(theta == 0).tolist() == [6, 7, 11, 29, 30, 31]


def test_a_tied_parameter_is_packed_once():
    first = Dense(4, 3)
    net = Sequential([first, TiedDense(first)])
    assert [p.name for p in net.params] == ["0.W", "0.b", "1.b"]
    theta, _ = pack(net.params, align=1)
    assert theta.size == 12 + 3 + 4 and net.layers[0].W is net.layers[1].W
    assert unique([*net.params, *net.params]) == net.params


def test_packing_nothing_packing_twice_and_mixed_dtypes_are_errors():
    params = three()
    with pytest.raises(ValueError, match="at least one parameter"):
        pack([])
    with pytest.raises(ValueError, match=r"one dtype, got \['float32', 'float64'\]"):
        pack([*params, Param("d", np.zeros(2))])
    pack(params)
    with pytest.raises(ValueError, match="W is packed already"):
        pack(params)


def test_a_copy_of_packed_layers_is_unpacked_and_has_arrays_of_its_own():
    net = Sequential([Dense(4, 3), Dense(3, 2)])
    theta, grad = pack(net.params)
    grad[...] = 2
    twin = net.to(np.float64)
    assert not any(p.packed for p in twin.params) and all((p.grad == 2).all() for p in twin.params)
    assert not any(np.shares_memory(p.value, theta) or np.shares_memory(p.grad, grad) for p in twin.params)
    assert pack(twin.params)[0].dtype == np.float64
