"""scikit-learn's callback support, with replacements for versions before 1.9."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    # Number of stack frames between the caller of `fit` and the body of `fit`: one for the
    # callbacks and one for parameter validation.
    N_WRAPPERS = 2
except ImportError:
    # Without callbacks, only parameter validation adds a stack frame.
    N_WRAPPERS = 1

    class _NullCallbackContext:
        """Callback context without callbacks, whose methods do nothing."""

        def subcontext(self, **kwargs: Any) -> "_NullCallbackContext":
            return self

        def call_on_fit_task_begin(self, **kwargs: Any) -> None:
            pass

        def call_on_fit_task_end(self, **kwargs: Any) -> bool:
            return False  # no callback asks the fit to stop

        def propagate_callback_context(self, sub_estimator: Any) -> nullcontext[None]:
            return nullcontext()

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Mixin that gives an estimator a callback context without callbacks."""

        def _init_callback_context(self, **kwargs: Any) -> _NullCallbackContext:
            return _NullCallbackContext()

    def with_callbacks(method: _Method) -> _Method:
        """Return the method unchanged."""
        return method


__all__ = ["N_WRAPPERS", "CallbackSupportMixin", "with_callbacks"]
