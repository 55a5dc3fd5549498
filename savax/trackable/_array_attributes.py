"""Attributes and methods of arrays that a Variable has too."""

from __future__ import annotations

from typing import Any

from savax.trackable._operators import ArrayOperators


class ArrayAttributes(ArrayOperators):
    """Forwards the attributes of an array to the array that ``value`` is.

    They are listed one by one, so that a misspelt attribute of a Variable stays an error.
    """

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return int(self.value.ndim)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.value.size)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take in memory."""
        return int(self.value.nbytes)

    @property
    def itemsize(self) -> int:
        """Bytes that one element takes in memory."""
        return int(self.value.dtype.itemsize)

    @property
    def T(self) -> Any:  # noqa: N802 - numpy's name
        """The value with its axes in reverse order."""
        return self.value.T

    @property
    def mT(self) -> Any:  # noqa: N802 - numpy's name
        """The value with its last two axes exchanged."""
        return self.value.mT

    @property
    def real(self) -> Any:
        """The real part of the value."""
        return self.value.real

    @property
    def imag(self) -> Any:
        """The imaginary part of the value."""
        return self.value.imag

    @property
    def at(self) -> Any:
        """JAX's functional updates of the value; assign the result to keep it."""
        return self.value.at

    @property
    def sharding(self) -> Any:
        """How JAX distributes the value over devices."""
        return self.value.sharding

    @property
    def device(self) -> Any:
        """Where JAX keeps the value."""
        return self.value.device

    def devices(self) -> Any:
        """Returns the devices on which JAX keeps the value."""
        return self.value.devices()

    def block_until_ready(self) -> Any:
        """Waits until JAX has computed the value; returns it."""
        return self.value.block_until_ready()

    def astype(self, dtype: Any) -> Any:
        """Returns the value in another dtype."""
        return self.value.astype(getattr(dtype, "numpy_dtype", dtype))

    def item(self) -> Any:
        """Returns the only element as a Python number."""
        return self.value.item()

    def tolist(self) -> Any:
        """Returns the elements as nested Python lists."""
        return self.value.tolist()

    def reshape(self, *shape: Any) -> Any:
        """Returns the value in another shape."""
        return self.value.reshape(*shape)

    def transpose(self, *axes: Any) -> Any:
        """Returns the value with its axes permuted."""
        return self.value.transpose(*axes)

    def ravel(self) -> Any:
        """Returns the elements along one axis."""
        return self.value.ravel()

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        """Returns sums of elements, as the array's method does."""
        return self.value.sum(*args, **kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        """Returns means of elements, as the array's method does."""
        return self.value.mean(*args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the largest elements, as the array's method does."""
        return self.value.max(*args, **kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the smallest elements, as the array's method does."""
        return self.value.min(*args, **kwargs)
