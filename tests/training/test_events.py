"""Callbacks are called in their order, may end a run, and fail in one sentence."""

import pytest

from foretell.errors import UserError
from foretell.training.events import Callback, Callbacks, Event, StopTraining, check_callbacks


class Noted(Event):
    """A record that is only a number."""

    def __init__(self, number):
        object.__setattr__(self, "number", number)


class Listens(Callback):
    """Notes what it gets."""

    def __init__(self, notes, name="first"):
        self.notes, self.name = notes, name

    def on_step(self, event):
        self.notes.append((self.name, event.number))


class Stops(Callback):
    def __init__(self, *reason):
        self.reason = reason

    def on_step(self, event):
        raise StopTraining(*self.reason)

    def on_training_end(self, event):
        raise StopTraining("too late")


class Fails(Callback):
    def __init__(self, error=None):
        self.error = error or ZeroDivisionError("division by zero")

    def on_step(self, event):
        raise self.error

    on_training_end = on_step


def event(number=1):
    return lambda: Noted(number)


def test_all_are_called_in_their_order_with_the_same_record():
    notes = []
    callbacks = Callbacks([Listens(notes), Listens(notes, "second")])
    assert callbacks.call("on_step", event(7)) is None
    assert notes == [("first", 7), ("second", 7)]


def test_a_record_is_only_made_if_there_is_one_to_receive_it():
    callbacks = Callbacks([Listens([]), Callback()])
    assert callbacks.call("on_learn_end", lambda: pytest.fail("made")) is None


def test_one_may_ask_to_stop_and_the_others_are_called_all_the_same():
    notes = []
    callbacks = Callbacks([Stops("it is good enough"), Stops("another reason"), Listens(notes)])
    assert callbacks.call("on_step", event()) == "it is good enough"
    assert notes == [("first", 1)]


def test_a_reason_to_stop_may_be_left_out():
    assert Callbacks([Stops()]).call("on_step", event()) == "Stops"


def test_a_failure_is_one_sentence_that_says_where():
    with pytest.raises(UserError) as mistake:
        Callbacks([Fails()]).call("on_step", event())
    line = Fails.on_step.__code__.co_firstlineno + 1
    assert str(mistake.value) == (
        f"the callback Fails failed in on_step ({__file__}, line {line}: ZeroDivisionError: division by zero)"
    )


def test_a_user_error_of_a_callback_is_raised_as_it_is():
    with pytest.raises(UserError, match=r"^the disk is full$"):
        Callbacks([Fails(UserError("the disk is full"))]).call("on_step", event())


@pytest.mark.long
def test_at_the_end_all_are_called_before_a_failure_is_raised():
    """They close files, and stop what draws on the terminal."""
    ended = []

    class Ends(Callback):
        def on_training_end(self, event):
            ended.append(event.number)

    with pytest.raises(UserError, match="the callback Fails failed in on_training_end"):
        Callbacks([Ends(), Fails(), Ends()]).call("on_training_end", event(3))
    assert ended == [3, 3]


@pytest.mark.parametrize("thing", [3, Listens, lambda event: None], ids=["number", "class", "function"])
@pytest.mark.long
def test_what_is_no_callback_is_refused(thing):
    with pytest.raises(UserError, match=r"^a callback must be a foretell\.Callback, not "):
        check_callbacks([Callback(), thing])
