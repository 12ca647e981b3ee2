"""The PNG of a picture: the page's colours, nothing at its edges, and no letters of mathematics."""

import numpy as np
from picture_checks import model_styles
from PIL import Image
from synthetic_results import random_result

from orca_bench.report.pictures import build_pictures, write_picture


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def rgb(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def test_models_have_the_colours_of_the_page_on_white_and_nothing_touches_the_edges(tmp_path):
    results = [random_result(tmp_path, f"model {n}", n / 8, seed=n, file=f"{n}.json") for n in range(8)]
    for picture in build_pictures(results):
        files = write_picture(picture, tmp_path / "p")
        image = pixels(files.png)
        assert files.png_size == (image.shape[1], image.shape[0]) == (1600, round(picture.wide.height * 2 - 0.5))
        for style in model_styles(picture.wide):
            assert (image == rgb(style.color)).all(axis=2).sum() > 50, style
        for edge in (image[:8], image[-8:], image[:, :8], image[:, -8:]):
            assert (edge == 255).all()


def test_a_name_with_dollar_signs_is_drawn_as_it_is(tmp_path):
    names = (r"a$\frac{1}{2}$", r"b$\no_such_command$", "50% _x_ ^y^")
    for name in names:
        picture = build_pictures([random_result(tmp_path, name, 0.5, file="m.json", tasks=["drop"])])[0]
        assert not write_picture(picture, tmp_path / "p").has_missing_glyphs
