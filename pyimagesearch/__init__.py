__version__ = "1.0.0"


def __getattr__(name: str):
    """`predict`, imported when it is asked for: importing the package imports no torch."""
    if name == "predict":
        from pyimagesearch.evaluation.predict import predict

        return predict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
