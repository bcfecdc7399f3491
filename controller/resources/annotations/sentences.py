"""What the owner of an object reads about annotations that are not read: what happens now, why, and what to do."""

from collections.abc import Sequence

ANSWER_500 = "the routes of this Ingress answer 500"
GUARD_NOT_YET = (
    f"{ANSWER_500}: {{name}} protects them in ingress-nginx and is not supported here yet. "
    "Remove it to have them served without that protection."
)
NOT_YET = "{name} is not supported yet and has no effect. Remove it, or leave this Ingress with ingress-nginx until it is."
ASKS_FOR_NOTHING = "{name} is not supported yet, and its value asks for nothing. Remove it."


def unreadable_guard(value: str, hint: str) -> str:
    """Say that the value of a guard cannot be read, or one that no route can be served without is not carried out."""
    return f"{value} was found, so the routes answer 500; {hint}"


def unknown_key(near: Sequence[str], *, ours: bool, guards: bool, about_nearest: str = "") -> str:
    """Say of a key that does not exist what may be meant.

    `guards`: it may be meant to protect; `about_nearest`: what is said of the nearest key, where that is not read either.
    """
    absent = "there is no such annotation" if ours else "ingress-nginx has no such annotation"
    meant = f"{' or '.join(near)} may be meant."
    if about_nearest:
        begun = about_nearest.replace(ANSWER_500, f"T{ANSWER_500[1:]}")
        return f"{absent}; {meant} {begun}"
    if guards:
        what_to_do = meant if near else "Remove it to have them served without that protection."
        return f"{ANSWER_500}: {absent}, and it may be meant to protect them. {what_to_do}"
    if near:
        return f"{absent}; {meant}"
    return f"{absent}; docs/ingress.md lists those that there are." if ours else f"{absent}, and it has no effect. Remove it."


def other_controllers(keys: Sequence[str], more: int, prefixes: Sequence[str], near: Sequence[str]) -> str:
    """Say which keys of other controllers are not read, and of those with a misspelt prefix what may be meant."""
    named = ", ".join(keys) + (f" and {more} more" if more > 0 else "")
    meant = f"; {' or '.join(near)} may be meant" if near else ""
    return f"{named}: not read, as only keys under {' and '.join(prefixes)} are{meant}."
