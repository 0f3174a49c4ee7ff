"""An endpoint that fails for a moment, asked again: a bench may ask thousands of times."""

import time

from visavis.errors import EndpointError
from visavis.gui.model import Context, Decision, Model

__all__ = ["decide"]

TRIES = 3
LONGEST_S = 60.0


def decide(model: Model, context: Context) -> Decision:
    """What the model decides; after a failure that may pass it is asked again, twice, in a second and in two more,
    or when it says, within a minute.

    Raises:
        EndpointError: it goes on failing.
        ReplyError: what it says does not parse.
    """
    for failures in range(1, TRIES + 1):
        try:
            return model.decide(context)
        except EndpointError as error:
            if not error.retry or failures == TRIES:
                raise
            time.sleep(max(failures, min(error.wait_s, LONGEST_S)))
    raise AssertionError("the last try returns or raises")
