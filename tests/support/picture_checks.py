"""Checks of a drawing's layout: nothing is cut, and no text lies on another."""

from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.drawing import Area, Group, Label, Line, Point


def texts(drawing):
    """The lines of text of a drawing."""
    return [shape.text for shape in drawing.all_shapes() if isinstance(shape, Label)]


def model_styles(drawing):
    """The styles of the models that a drawing shows."""
    return {shape.paint for shape in drawing.all_shapes() if isinstance(shape.paint, ModelStyle)}


def box(shape):
    """(left, top, right, bottom) of a shape; a text's letters reach from 0.75 above its baseline to 0.2 below, times its size."""
    if isinstance(shape, Label):
        return shape.left, shape.y - 0.75 * shape.size, shape.left + shape.width, shape.y + 0.2 * shape.size
    if isinstance(shape, Point):
        extent = 1.2 * shape.radius
        return shape.x - extent, shape.y - extent, shape.x + extent, shape.y + extent
    if isinstance(shape, Area):
        return shape.left, shape.top, shape.left + shape.width, shape.top + shape.height
    assert isinstance(shape, Line)
    half = shape.width / 2
    xs, ys = [x for x, _ in shape.positions], [y for _, y in shape.positions]
    return min(xs) - half, min(ys) - half, max(xs) + half, max(ys) + half


def check_layout(drawing):
    """Everything lies within the picture, texts of at least 11 pixels do not overlap, and groups name their tasks."""
    labels = []
    for shape in drawing.all_shapes():
        left, top, right, bottom = box(shape)
        assert left >= 0 and top >= 0 and right <= drawing.width and bottom <= drawing.height, shape
        if isinstance(shape, Label):
            assert shape.size >= 11, shape
            labels.append((shape, left, top, right, bottom))
    labels.sort(key=lambda entry: entry[2])
    for index, (shape, left, top, right, bottom) in enumerate(labels):
        for other, other_left, other_top, other_right, other_bottom in labels[index + 1 :]:
            if other_top >= bottom:
                break
            assert other_left >= right or left >= other_right or top >= other_bottom, (shape, other)
    assert all(shape.tooltip for shape in drawing.shapes if isinstance(shape, Group))
