"""C++ reinforcement learning tasks of early Isaac Gym releases, which are not provided.

Programs with Python tasks import this module too, so only its functions raise an error.
"""

from typing import NoReturn


def create_task_cpu(*args: object, **kwargs: object) -> NoReturn:
    """Raises NotImplementedError."""
    raise NotImplementedError(
        "rlgpu.create_task_cpu: tasks in C++ are not provided; use Python tasks"
    )


def create_task_gpu(*args: object, **kwargs: object) -> NoReturn:
    """Raises NotImplementedError."""
    raise NotImplementedError(
        "rlgpu.create_task_gpu: tasks in C++ are not provided; use Python tasks"
    )
