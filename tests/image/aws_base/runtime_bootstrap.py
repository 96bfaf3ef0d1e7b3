"""Does what AWS's /var/runtime/bootstrap.py does: module path, ``.pth`` files, then the loop."""

import os
import site
import sys

# By this name: Sentry and others look for it in this module, to patch the runtime.
import awslambdaric.__main__ as awslambdaricmain


def main() -> None:
    """Run the handler that _HANDLER names."""
    task_root = os.environ["LAMBDA_TASK_ROOT"]
    packages = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    layers = [f"/opt/python/{packages}", "/opt/python"]
    if "PYTHONPATH" in os.environ:
        # A user who sets it decides where the layers come in.
        sys.path.insert(0, task_root)
        site.addsitedir(task_root)
    else:
        # The interpreter's own packages come before the runtime's, in whose folder this file lies.
        sys.path[:0] = [task_root, *layers, f"/var/lang/{packages}"]
        for folder in (task_root, *layers):
            site.addsitedir(folder)  # on the path already, so that only .pth files are read
        # For the processes that the handler starts.
        os.environ["PYTHONPATH"] = os.environ["LAMBDA_RUNTIME_DIR"]
    awslambdaricmain.main([task_root, os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
