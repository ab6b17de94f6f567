"""One module a subject; every module in here is loaded and its cases are run."""
