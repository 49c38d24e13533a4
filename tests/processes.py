"""Two processes of one group, as torchrun would start them."""

import os
import socket
from collections.abc import Callable

import torch
from torch.multiprocessing import start_processes

from shared import distributed


def run_in_two(function: Callable[..., None], *arguments: object) -> None:
    """Calls `function(*arguments)` in both; it lies at the top of its module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Autograd's threads, which a GPU brings along, survive no fork.
    method = "spawn" if torch.cuda.is_available() else "fork"
    start_processes(_work, (port, function, arguments), nprocs=2, start_method=method)


def _work(rank: int, port: int, function: Callable[..., None], arguments: tuple) -> None:
    variables = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in variables.items()})
    torch.set_num_threads(1)
    distributed.init_process_group(torch.device("cpu"))
    function(*arguments)
    distributed.shut_down()
