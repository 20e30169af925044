"""What older scikit-learn lacks: the callbacks of version 1.9."""

from contextlib import nullcontext

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    # Wrappers between the caller of fit and fit itself: callbacks and parameter validation.
    N_WRAPPERS = 2
except ImportError:
    N_WRAPPERS = 1

    class _NoContext:
        """A callback context for a scikit-learn that has no callbacks."""

        def subcontext(self, **kwargs):
            return self

        def call_on_fit_task_begin(self, **kwargs):
            pass

        def call_on_fit_task_end(self, **kwargs):
            return False

        def propagate_callback_context(self, sub_estimator):
            return nullcontext()

    class CallbackSupportMixin:  # type: ignore[no-redef]
        def _init_callback_context(self, **kwargs):
            return _NoContext()

    def with_callbacks(method):
        return method


__all__ = ["N_WRAPPERS", "CallbackSupportMixin", "with_callbacks"]
