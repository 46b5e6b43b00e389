import pytest

from foretell.report.curve import draw_learning_curve


@pytest.mark.long
def test_the_curve_is_a_png_for_any_mix_of_kinds(tmp_path):
    rows = [
        {"kind": kind, "env_steps": 200 * (i + 1), "return": value}
        for i, (kind, value) in enumerate([("random", -4.0), ("train", 80.0), ("eval", 90.0), ("train", 170.0)])
    ]
    for count in range(1, 5):
        path = tmp_path / "figures" / f"{count}.png"
        draw_learning_curve(rows[:count], path, title="pets/cartpole, seed 0")
        assert path.read_bytes().startswith(b"\x89PNG")
