"""A DeepSpeed engine in; checkpoints out while it goes on training, and back into an engine.

To save, each process copies its part of the state into main memory, which is all that training waits for, and a thread writes
the copy. The processes tell one another after each later step whether they have written all; then process 0 marks the
checkpoint as whole. So a copy of the state of each process stands in main memory while a checkpoint is written: with AdamW 12
bytes for each of its parameters. With LoRA the weights of the base model are left out: they are read from it again. Its own
module because the order of these things decides what a kill leaves; checkpoint_files.py has the files.
"""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orca_bench.errors import UserError, one_line
from orca_bench.files import catch_write_errors
from orca_bench.train import checkpoint_conversion, checkpoint_files
from orca_bench.train.checkpoint_files import CheckpointManifest, FileEntry

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


_FROZEN_WEIGHTS_KEY = "frozen_weights_sum"  # in a checkpoint with LoRA, beside its step


class Checkpoints:
    """The checkpoints of one run and the engine that trains it. All public methods are collectives.

    With LoRA a checkpoint has LoRA's weights alone, and a sum by which the base's are recognised. Without it a checkpoint has all
    weights, also those that a model itself excludes from training.
    """

    def __init__(self, engine: DeepSpeedEngine, folder: Path, max_checkpoints: int, has_lora: bool = False) -> None:
        import torch

        self._engine, self._folder, self._max_checkpoints = engine, folder, max_checkpoints
        self._is_first_rank = torch.distributed.get_rank() == 0
        self._frozen_weights_sum = frozen_weights_sum(engine) if has_lora else None
        self._write: _BackgroundWrite | None = None
        self._removal: threading.Thread | None = None

    def load(self) -> int:
        """Load the newest checkpoint into the engine; returns the number of steps done, 0 where there is none.

        Raises UserError where it is broken or of another model.
        """
        import torch

        checkpoint = checkpoint_files.newest_checkpoint(self._folder)
        if checkpoint is None:
            return 0
        manifest = checkpoint_files.read_manifest(checkpoint)
        if manifest is not None and (
            difference := checkpoint_files.parameter_difference(manifest.parameters, _parameter_shapes(self._engine))
        ):
            raise UserError(
                f"this is the checkpoint of another model: {difference}",
                where=checkpoint,
                hint="put the run's own checkpoint back, or delete this one to go on from the one before it",
            )
        converted_folder = checkpoint_conversion.converted_folder(checkpoint)
        is_converted = self._engine.load_universal_checkpoint()
        tag = converted_folder.name if is_converted else checkpoint.name
        hint = f"delete {checkpoint.name} to go on from the one before it, or start over with --fresh"
        try:
            loaded_path, client_state = self._engine.load_checkpoint(
                str(self._folder), tag=tag, load_module_strict=self._frozen_weights_sum is None
            )
        except Exception as error:  # torch, pickle and zipfile each have their own for a broken file
            problem = f"the checkpoint cannot be loaded ({type(error).__name__}: {one_line(error, 200)})"
            raise UserError(problem, where=checkpoint, hint=hint) from error
        if loaded_path is None:
            raise UserError("the checkpoint cannot be loaded", where=checkpoint, hint=hint)
        if client_state.get(_FROZEN_WEIGHTS_KEY) != self._frozen_weights_sum:
            raise UserError(
                "the weights of model.base are not those that this run began with",
                where=checkpoint,
                hint="put the same model there again, or start over with --fresh",
            )
        if is_converted:
            _separate_step_counts(self._engine)
            torch.distributed.barrier()
            if self._is_first_rank:
                shutil.rmtree(converted_folder, ignore_errors=True)
        return client_state["step"]

    def save(self, steps_done: int) -> None:
        """Copy the state after so many steps and begin to write it; waits first for an earlier one that is still being written.

        Raises UserError where the disk does not take the earlier one, or no further folder.
        """
        self.wait()
        folder = checkpoint_files.temporary_folder(self._folder, steps_done)
        if self._is_first_rank:  # before DeepSpeed's barrier, after which each process creates the folder
            shutil.rmtree(folder, ignore_errors=True)
        client_state = {"step": steps_done}
        if self._frozen_weights_sum is not None:
            client_state[_FROZEN_WEIGHTS_KEY] = self._frozen_weights_sum
        copying_engine = _CopyingCheckpointEngine(self._engine.checkpoint_engine, self._names_left_out())
        self._engine.checkpoint_engine = copying_engine
        try:
            with catch_write_errors(self._folder):
                self._engine.save_checkpoint(
                    str(self._folder),
                    tag=folder.name,
                    client_state=client_state,
                    save_latest=False,
                    exclude_frozen_parameters=self._frozen_weights_sum is not None,
                )
        finally:
            self._engine.checkpoint_engine = copying_engine.wrapped
        self._write = _BackgroundWrite(steps_done, folder, copying_engine.state_by_path)
        self._write.start()

    def _names_left_out(self) -> set[str]:
        """All names of the base's weights with LoRA. DeepSpeed 0.19.8 leaves out one name of a weight that has several."""
        if self._frozen_weights_sum is None:
            return set()
        named_parameters = self._engine.module.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named_parameters if not parameter.requires_grad}

    def mark_if_written(self) -> None:
        """Mark the checkpoint that is being written as whole where all processes have written it. To be called at each step.

        Raises UserError where the disk did not take this process's part; the checkpoints before it are as they were.
        """
        import torch

        if self._write is None:
            return
        is_written = not self._write.is_alive()
        if is_written:
            self._write.raise_error()
        are_all_written = torch.tensor(float(is_written), device=self._engine.device)
        torch.distributed.all_reduce(are_all_written, op=torch.distributed.ReduceOp.MIN)
        if are_all_written > 0:
            self._mark_whole(self._write)

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is whole and older ones are removed; raises as `mark_if_written`."""
        if self._write is not None:
            self._write.join()
            self.mark_if_written()
        if self._removal is not None:
            self._removal.join()

    def _mark_whole(self, write: _BackgroundWrite) -> None:
        import torch

        self._write = None
        entries_of_processes: list[dict[str, FileEntry]] = [{}] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(entries_of_processes, write.entry_by_name)
        if not self._is_first_rank:
            return
        file_entries = {name: entry for entries in entries_of_processes for name, entry in entries.items()}
        checkpoint_files.mark_whole(
            write.folder,
            CheckpointManifest(
                step=write.steps_done,
                processes=len(entries_of_processes),
                parameters=_parameter_shapes(self._engine),
                files=dict(sorted(file_entries.items())),
            ),
        )
        if self._removal is not None:
            self._removal.join()
        self._removal = threading.Thread(
            target=checkpoint_files.remove_old_checkpoints, args=(self._folder, self._max_checkpoints), daemon=True
        )
        self._removal.start()


def _separate_step_counts(engine: DeepSpeedEngine) -> None:
    """Give each part of the optimizer's state its own step count, on the device of its parameter.

    DeepSpeed 0.19.8 loads a converted checkpoint of stage 3 with one tensor for all parts, which AdamW then increases once for
    each of them; models of more than 1e9 parameters have several. It leaves this tensor on the CPU, where torch's fused AdamW
    for GPUs refuses it.
    """
    import torch

    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    for parameter, state in optimizer.state.items():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].to(parameter.device, copy=True)


def frozen_weights_sum(engine: DeepSpeedEngine) -> int:
    """A number by which the weights that are not trained are recognised. A collective.

    Each parameter's weights, their bits taken as integers, are added and multiplied by its place in the model; the sum is
    modulo 2^64. So it is the same, to the bit, however the weights are divided over processes.
    """
    import torch

    bits_sum = torch.zeros((), dtype=torch.int64, device=engine.device)
    is_partitioned = False
    for place, parameter in enumerate(engine.module.parameters(), 1):
        if parameter.requires_grad:
            continue
        weights = parameter.detach()
        if hasattr(parameter, "ds_tensor"):  # at stage 3; what is behind the last weight has no defined value
            is_partitioned = True
            start = torch.distributed.get_rank() * parameter.ds_tensor.numel()
            weights = parameter.ds_tensor.detach().flatten()[: max(0, parameter.ds_numel - start)]
        bits = weights.view(torch.int32 if weights.dtype == torch.float32 else torch.int16)
        bits_sum += place * bits.sum(dtype=torch.int64).to(engine.device)
    if is_partitioned:
        torch.distributed.all_reduce(bits_sum)
    return int(bits_sum)


def _parameter_shapes(engine: DeepSpeedEngine) -> dict[str, list[int]]:
    """The whole shape of each parameter by its name; at stage 3 a parameter itself has but its process's part."""
    return {
        name: list(getattr(parameter, "ds_shape", parameter.shape))
        for name, parameter in engine.module.named_parameters()
    }


class _CopyingCheckpointEngine:
    """DeepSpeed's checkpoint engine `wrapped`, except that what it is to save is copied and kept for the thread that writes.

    The model's weights with `names_left_out` are not copied.
    """

    def __init__(self, wrapped: Any, names_left_out: set[str]) -> None:
        self.wrapped, self._names_left_out = wrapped, names_left_out
        self.state_by_path: dict[Path, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def save(self, state_dict: Any, path: str) -> None:
        """Called by DeepSpeed for each file of this process."""
        if self._names_left_out and "module" in state_dict:
            module_state = {
                name: value for name, value in state_dict["module"].items() if name not in self._names_left_out
            }
            state_dict = state_dict | {"module": module_state}
        self.state_by_path[Path(path)] = copy_to_main_memory(state_dict)


def copy_to_main_memory(state: Any) -> Any:
    """A copy of nested dictionaries and lists that shares no memory with `state`; tensors are copied to the CPU.

    Of a tensor that is a part of a larger one only its own values are copied.
    """
    import torch

    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        copied_state = copy.copy(state)  # keeps the kind of dictionary
        for key, value in state.items():
            copied_state[key] = copy_to_main_memory(value)
        return copied_state
    if type(state) in (list, tuple):
        return type(state)(copy_to_main_memory(value) for value in state)
    return copy.deepcopy(state)


class _BackgroundWrite(threading.Thread):
    """Writes one process's files of one checkpoint. A daemon: a process that fails or is to end does not wait for it."""

    def __init__(self, steps_done: int, folder: Path, state_by_path: dict[Path, Any]) -> None:
        super().__init__(name=f"checkpoint {steps_done}", daemon=True)
        self.steps_done, self.folder = steps_done, folder
        self.entry_by_name: dict[str, FileEntry] = {}
        self._state_by_path = state_by_path
        self._error: Exception | None = None

    def run(self) -> None:
        """Write, flush to the disk, and free the copy."""
        try:
            while self._state_by_path:
                path, state = self._state_by_path.popitem()
                self.entry_by_name[str(path.relative_to(self.folder))] = _write_state(path, state)
        except Exception as error:
            self._error = error
        finally:
            self._state_by_path.clear()

    def raise_error(self) -> None:
        """Raise what kept the thread from writing."""
        if self._error is not None:
            raise self._error


def _write_state(path: Path, state: Any) -> FileEntry:
    """Write one file as torch.load reads it, down to the disk; raises UserError where the disk does not take it."""
    import torch

    with catch_write_errors(path), open(path, "wb") as handle:
        writer = _HashingWriter(handle)
        try:
            torch.save(state, writer)
        except Exception as error:
            raise writer.error or error from None  # torch 2.13 raises a RuntimeError of its own after a failed write
        handle.flush()
        os.fsync(handle.fileno())
    return FileEntry(bytes=writer.byte_count, sha256=writer.hash.hexdigest())


class _HashingWriter:
    """What torch.save writes to: passes on to a file, and counts and hashes it on the way."""

    def __init__(self, handle: BinaryIO) -> None:
        self.byte_count, self.hash = 0, hashlib.sha256()
        self.error: OSError | None = None
        self._handle = handle

    def write(self, chunk: bytes | memoryview) -> int:
        """Write all of a chunk."""
        try:
            self._handle.write(chunk)
        except OSError as error:
            self.error = error
            raise
        self.hash.update(chunk)
        self.byte_count += len(chunk)
        return len(chunk)

    def flush(self) -> None:
        """Called by torch.save at the end."""
        self._handle.flush()
