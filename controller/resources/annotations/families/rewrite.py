"""The path that the backend sees."""

from controller.resources.annotations.annotation import Family, not_yet, ours
from controller.resources.annotations.values import text_of
from controller.resources.reading.fields import PATH_HINT, is_literal_path

FAMILY = Family(
    "Rewriting paths",
    (
        ours(
            "rewrite.prefix",
            text_of(lambda text: text if is_literal_path(text) else None, PATH_HINT),
            "a path",
            "takes the place of the path's prefix, or of the whole path where it is Exact",
        ),
        *not_yet("x-forwarded-prefix"),
    ),
    "rewrite",
)
