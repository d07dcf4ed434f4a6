"""Ray Train's controller in the driver's own process, which would wait for it anyway, and no process but the workers.

Ray starts one for the controller, one in which the workers meet, one that clears away placement groups, one that shares
the cluster out with Ray Data: each imports Ray Train, which takes seconds and hundreds of megabytes, at every run.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.train import UserCallback
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.exceptions import RayTrainError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup, state, worker_group
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from .. import network
from ..errors import PeerLost
from . import prestart


class Trainer(DataParallelTrainer):
    """Ray's, run here; an interrupt raises KeyboardInterrupt, where Ray's would end the process with exit code 0."""

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        policy = given["scaling_policy"]
        if isinstance(policy, FixedScalingPolicy):
            given["scaling_policy"] = Fixed(policy.scaling_config)
        _meet_without_actor()
        controller = Controller(**given)
        asyncio.run(controller.run())
        return controller.get_result()

    def _create_default_callbacks(self) -> list[Any]:
        """Without two that start a process each: groups end with the job, and no Ray data set is ever given."""
        unneeded = ("PlacementGroupCleanerCallback", "DatasetsCallback")
        return [one for one in super()._create_default_callbacks() if type(one).__name__ not in unneeded]


class Workers(WorkerGroup):
    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> Any:
        """Of a kept cluster, whose raylet has QUIET's settings itself: none, for one that waits has none."""
        return {} if prestart.is_kept_cluster() else WorkerGroup._get_worker_runtime_env(custom_runtime_env)

    def _init_train_context_on_workers(self, workers: list, sync_actor: Any, train_context_args: dict) -> None:
        """As Ray's, but that no worker can ask the controller, which is no actor; none of ours does."""
        given = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": None,
            "storage_context": self._storage_context,
            "worker_callbacks": self._worker_callbacks_to_propagate,
            "controller_actor": None,
        }
        begun = []
        for number, worker in enumerate(workers):
            own = {name: values[number] for name, values in train_context_args.items()}
            own["distributed_context"] = worker.distributed_context
            begun.append(worker.actor.init_train_context.remote(**given, **own))
        ray.get(begun)
        self._decorate_worker_log_file_paths(workers)


class Controller(TrainController):
    worker_group_cls = Workers


class Fixed(FixedScalingPolicy):
    """Without the actor that shares a cluster out between Ray Train and Ray Data, and is waited for."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing to ask for: the placement group tells an autoscaler what is missing."""

    def _maybe_send_resource_request(self) -> None:
        """Nor to repeat."""


class Rendezvous(BackendConfig):
    """Tells all workers, before they begin, where to meet: at the first of them (`ports.meeting`)."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _Meeting


class _Meeting(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        host = worker_group.get_workers()[0].metadata.node_ip
        port = worker_group.execute_single(0, network.free_port, host)
        worker_group.execute(network.set_rendezvous, f"{host}:{port}")


class RetryOnlyLostWorkers(UserCallback):
    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if not isinstance(error, RayTrainError | PeerLost):  # the first is Ray's word for a worker that died
                raise error


class _Nobody:
    """In the place of the actor through which Ray's workers meet; there is no other way to do without it."""

    @classmethod
    def options(cls, **given: Any) -> type[_Nobody]:
        return cls

    @classmethod
    def remote(cls, **given: Any) -> _Nobody:
        return cls()


def _meet_without_actor() -> None:
    """Puts it there, in the process whose controller starts and ends groups of workers."""
    modules: tuple[Any, Any] = (worker_group, state)
    modules[0].SynchronizationActor = _Nobody
    modules[1]._shutdown_sync_actor = lambda nobody: None
