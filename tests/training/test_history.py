from __future__ import annotations

from cellscale.training.history import History


def test_a_point_is_the_mean_of_some_steps() -> None:
    history = History(every=2)
    for step, loss in enumerate([1.0, 3.0, 5.0, 6.0], 1):
        history.step("one", step, {"loss": loss} | ({"other": 7.0} if step == 3 else {}))
    assert history.rows == [(2, "one", "loss", 2.0), (4, "one", "loss", 5.5), (4, "one", "other", 7.0)]


def test_two_stages_in_one_point_are_kept_apart() -> None:
    history = History(every=2)
    history.step("one", 1, {"loss": 1.0})
    history.step("two", 2, {"loss": 9.0})
    assert history.rows == [(2, "one", "loss", 1.0), (2, "two", "loss", 9.0)]


def test_the_csv_has_losses_and_scores() -> None:
    history = History(every=1)
    history.step("one", 1, {"loss": 0.25})
    history.scores(1, {"seg": 0.5})
    assert history.csv() == "step,stage,name,value\n1,one,loss,0.25\n1,validation,seg,0.5\n"


def test_the_last_steps_of_a_training_make_a_point_of_their_own() -> None:
    history = History(every=3)
    for step in range(1, 6):
        history.step("one", step, {"loss": float(step)})
        assert History(**vars(history)).csv() == history.csv()
    assert history.csv() == "step,stage,name,value\n3,one,loss,2\n5,one,loss,4.5\n"
    history.step("one", 6, {"loss": 6.0})
    assert history.rows == [(3, "one", "loss", 2.0), (6, "one", "loss", 5.0)]


def test_the_picture_is_a_png_with_and_without_points() -> None:
    history = History(every=1)
    assert history.png().startswith(b"\x89PNG")
    history.step("one", 1, {"loss": 0.25})
    history.scores(1, {"seg": 0.5})
    assert history.png().startswith(b"\x89PNG")
