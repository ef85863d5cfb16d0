"""Why a step cannot be recorded."""


class Unrecordable(Exception):
    """Something in the step that a replay could not repeat; its text completes "it runs eagerly because ..."."""
