"""What a primitive does with each number after it has computed it: oneDNN's post-ops."""

from ctypes import c_float, c_int, c_int32

from ._library import Handle, Library

ADD, MULTIPLY = 0x1FFF0, 0x1FFF1
LINEAR = 0x26
OTHER = 2  # a binary operation's second factor


class Chain:
    """What follows a primitive, in order; `arguments` are what it reads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._list = library.create("post_ops")
        self._length = 0
        self.arguments: list[int] = []

    def _append(self, kind: str, *options: object) -> "Chain":
        self._library.call(f"post_ops_append_{kind}", self._list, *options)
        self._length += 1
        return self

    def binary(self, algorithm: int, layout: Handle) -> "Chain":
        """With an array: a sum or a product."""
        self.arguments.append(32768 * (self._length + 1) | OTHER)
        return self._append("binary", c_int(algorithm), layout)

    def function(self, algorithm: int, alpha: float, beta: float) -> "Chain":
        """sqrt(x), alpha x + beta, or alpha x ** beta."""
        return self._append("eltwise", c_int(algorithm), c_float(alpha), c_float(beta))

    def add_to_result(self, factor: float) -> "Chain":
        """Plus a multiple of what the result's memory holds."""
        return self._append("sum", c_float(factor), c_int32(0), c_int(0))

    def attributes(self) -> Handle:
        """For the description of the primitive."""
        made = self._library.attributes()
        self._library.call("primitive_attr_set_post_ops", made, self._list)
        return made
