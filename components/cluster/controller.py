"""Run Ray Train's controller in the driver's process, so that a run starts no process but its workers.

Ray starts processes for the controller, for the workers' rendezvous, for the removal of placement groups and for
sharing the cluster with Ray Data. Each imports Ray Train in every run, which takes seconds and hundreds of megabytes.
The driver only waits for the controller, so it can run the controller itself.
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

from ..errors import PeerLost
from ..training import rendezvous
from . import prestart


class Trainer(DataParallelTrainer):
    """Ray's trainer with the controller in this process.

    An interrupt raises KeyboardInterrupt; Ray's trainer would end the process with exit code 0.
    """

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        policy = options["scaling_policy"]
        if isinstance(policy, FixedScalingPolicy):
            options["scaling_policy"] = FixedSizePolicy(policy.scaling_config)
        _replace_synchronization_actor()
        controller = Controller(**options)
        asyncio.run(controller.run())
        return controller.get_result()

    def _create_default_callbacks(self) -> list[Any]:
        """Leave out two callbacks that start a process: placement groups end with the job, and Ray Data is not used."""
        unneeded = ("PlacementGroupCleanerCallback", "DatasetsCallback")
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in unneeded]


class Workers(WorkerGroup):
    """Ray's worker group; on a kept cluster it can use workers that were started in advance."""

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> Any:
        """Return no runtime environment on a kept cluster, otherwise Ray's.

        The raylet of a kept cluster already has these settings, and waiting workers can only be used without one.
        """
        return {} if prestart.is_kept_cluster() else WorkerGroup._get_worker_runtime_env(custom_runtime_env)

    def _create_workers(self, *arguments: Any, **options: Any) -> list:
        """Create the workers as Ray does, and give the first ranks to those on the driver's machine, if any are."""
        workers = super()._create_workers(*arguments, **options)
        own = ray.get_runtime_context().get_node_id()
        workers.sort(key=lambda worker: worker.metadata.node_id != own)
        return WorkerGroup._assign_worker_ranks(workers)

    def _init_train_context_on_workers(self, workers: list, sync_actor: Any, train_context_args: dict) -> None:
        """Set the workers' contexts as Ray does, but without the controller, which is not an actor here."""
        shared = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": None,
            "storage_context": self._storage_context,
            "worker_callbacks": self._worker_callbacks_to_propagate,
            "controller_actor": None,
        }
        calls = []
        for number, worker in enumerate(workers):
            own = {name: values[number] for name, values in train_context_args.items()}
            own["distributed_context"] = worker.distributed_context
            calls.append(worker.actor.init_train_context.remote(**shared, **own))
        ray.get(calls)
        self._decorate_worker_log_file_paths(workers)


class Controller(TrainController):
    """Ray's controller with `Workers`."""

    worker_group_cls = Workers


class FixedSizePolicy(FixedScalingPolicy):
    """Ray's policy without the actor that shares the cluster with Ray Data, for which the controller would wait."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Request nothing: the placement group already tells an autoscaler what is missing."""

    def _maybe_send_resource_request(self) -> None:
        """Send no request."""


class Rendezvous(BackendConfig):
    """Choose an address on the first worker, at which all workers meet, and tell it to all before they begin."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _RendezvousBackend


class _RendezvousBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        workers = [worker.metadata for worker in worker_group.get_workers()]
        if len({worker.node_id for worker in workers}) == 1:
            place = worker_group.execute_single(0, rendezvous.meet_in_folder)
        else:
            place = worker_group.execute_single(0, rendezvous.meet_at_address, workers[0].node_ip)
        worker_group.execute(rendezvous.choose_place, place)
        self.place = place

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Remove the place of workers that were killed; those that end by themselves remove it on their machine."""
        rendezvous.remove_place(self.place)


class RetryOnlyLostWorkers(UserCallback):
    """End the run on any error but a lost worker, on which Ray Train starts the workers again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if not isinstance(error, RayTrainError | PeerLost):  # RayTrainError: the worker's process died
                raise error


class _NoActor:
    """A stand-in for the actor class through which Ray's workers meet; Ray has no setting to run without it."""

    @classmethod
    def options(cls, **options: Any) -> type[_NoActor]:
        """Ignore the actor's options."""
        return cls

    @classmethod
    def remote(cls, **arguments: Any) -> _NoActor:
        """Return a stand-in and start no process."""
        return cls()


def _replace_synchronization_actor() -> None:
    """Replace Ray's synchronization actor in this process, whose controller starts and ends groups of workers."""
    modules: tuple[Any, Any] = (worker_group, state)
    modules[0].SynchronizationActor = _NoActor
    modules[1]._shutdown_sync_actor = lambda actor: None
