"""The `mlserve` command, also usable as `kubectl mlserve`."""
