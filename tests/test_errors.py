import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visavis import errors
from visavis.errors import EndpointError, ReplyError, ScreenError, TensorError, VisavisError, expect

LENGTHS = st.lists(st.integers(0, 5), max_size=4)


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"expect"}))
def test_one_except_catches_the_family(name):
    error = getattr(errors, name)
    assert issubclass(error, VisavisError)
    assert error is VisavisError or error.__doc__


@pytest.mark.parametrize("name", ["InputError", "LandmarkError", "PhotoError", "TensorError"])
def test_errors_about_values_are_value_errors(name):
    assert issubclass(getattr(errors, name), ValueError)


@pytest.mark.parametrize(
    "error",
    [ReplyError("where", "reply"), EndpointError("busy", retry=True, wait_s=2.0), ScreenError("gone", acted=False)],
)
def test_errors_cross_from_process_to_process(error):
    same = pickle.loads(pickle.dumps(error))
    assert (type(same), str(same), vars(same)) == (type(error), str(error), vars(error))


@given(LENGTHS, st.data())
def test_expect_takes_its_own_shape_and_any_length(shape, data):
    wanted = [data.draw(st.sampled_from([length, None])) for length in shape]
    expect("x", torch.zeros(shape), "float", *wanted)
    expect("x", np.zeros(shape, np.uint8), "uint8", *wanted)


@given(LENGTHS, LENGTHS)
def test_expect_refuses_every_other_shape(have, want):
    if have == want:
        expect("x", np.zeros(have), "float", *want)
    else:
        with pytest.raises(TensorError, match="^x: expected float "):
            expect("x", np.zeros(have), "float", *want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_is_a_float(dtype):
    expect("x", torch.zeros(1, dtype=dtype), "float", 1)


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (torch.zeros(2, 3), "int64", "x: expected int64 [any, 3], got float32 [2, 3]"),
        (torch.zeros(2, 4, dtype=torch.int64), "int64", "x: expected int64 [any, 3], got int64 [2, 4]"),
        (torch.zeros(2, 3, dtype=torch.int32), "int64", "x: expected int64 [any, 3], got int32 [2, 3]"),
        (np.zeros((2, 3), np.int8), "uint8", "x: expected uint8 [any, 3], got int8 [2, 3]"),
        (np.zeros((2, 3), np.complex64), "float", "x: expected float [any, 3], got complex64 [2, 3]"),
        (np.zeros(3), "float", "x: expected float [any, 3], got float64 [3]"),
    ],
)
def test_expect_says_what_it_wanted_and_what_it_got(array, kind, message):
    with pytest.raises(TensorError) as caught:
        expect("x", array, kind, None, 3)
    assert str(caught.value) == message
