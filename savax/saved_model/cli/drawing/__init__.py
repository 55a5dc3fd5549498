"""Pictures of a model's functions and objects, as SVG and as pages whose groups open and close."""

from __future__ import annotations

from savax.saved_model.cli.drawing._bodies import function_body, signature_body
from savax.saved_model.cli.drawing._functions_picture import draw_function
from savax.saved_model.cli.drawing._object_tree import draw_objects
from savax.saved_model.cli.drawing._page import objects_page, picture_page
from savax.saved_model.cli.drawing._svg import objects_svg, picture_svg

__all__ = [
    "draw_function",
    "draw_objects",
    "function_body",
    "objects_page",
    "objects_svg",
    "picture_page",
    "picture_svg",
    "signature_body",
]
