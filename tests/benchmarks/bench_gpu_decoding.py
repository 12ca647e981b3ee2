"""Where the engine's time goes on one GPU, for bench_gpu.py: profiles, and decoding steps with and without a captured graph.

In: a LLaMA of random weights in bfloat16. Out: tables of torch's profiler as text files, and milliseconds of one decoding step.
Its own module because it looks inside the engine, and the other parts only call it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import bench_gpu_inputs
from bench_gpu_process import Recorder, synchronize

from orca_bench.evaluate.engine.attention_interface import AttentionOptions, AttentionPattern, masked_attention

_STEPS = 20
_TABLE_ROWS = 12


def profile_engine(recorder: Recorder) -> None:
    """Batches of the prefix tree, and steps of generation, of TinyLlama's shape, or of a tiny one."""
    from orca_bench.evaluate.engine.tree_engine import TreeEngine

    shape_name = "tiny" if recorder.is_tiny else "1.1b"
    model = bench_gpu_inputs.build_model(shape_name, "bfloat16", recorder.device)
    engines = {method: TreeEngine(model, attention_method=method) for method in ("mask", "lengths")}
    tasks = bench_gpu_inputs.scaled_task_shapes(*((0.02, 0.05) if recorder.is_tiny else (0.1, 1.0)))
    vocabulary_size = bench_gpu_inputs.SHAPES[shape_name]["vocab_size"]
    sequences_by_task = bench_gpu_inputs.sequences_of_tasks(tasks, vocabulary_size)
    for task_name, method in (("hellaswag", "mask"), ("mmlu", "mask"), ("hellaswag", "lengths")):
        name, sequences, engine = f"log-likelihoods-{task_name}-{method}", sequences_by_task[task_name], engines[method]
        recorder.measure(
            f"profile {name}",
            lambda name=name, sequences=sequences, engine=engine: profile(
                recorder, name, lambda: engine.log_likelihoods(sequences)
            ),
        )
    prompt_tokens = 8 if recorder.is_tiny else 256
    for count in (2,) if recorder.is_tiny else (1, 64):
        prompts = bench_gpu_inputs.prompts(count, prompt_tokens, vocabulary_size)
        recorder.measure(
            f"profile of generation, {count} prompts",
            lambda count=count, prompts=prompts: profile(
                recorder,
                f"generation-{count}",
                lambda: engines["lengths"].generate_ids(prompts, lambda index, ids: False, 16),
            ),
        )


def profile(recorder: Recorder, name: str, function: Callable[[], Any], is_warm: bool = False) -> dict[str, Any]:
    """Profile a function's second call; the tables go into profile-NAME.txt, and the sums of their times into a row."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if recorder.device != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    if not is_warm:
        function()
    synchronize(recorder.device)
    start = time.perf_counter()
    function()
    synchronize(recorder.device)
    seconds = time.perf_counter() - start
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        start = time.perf_counter()
        function()
        synchronize(recorder.device)
        profiled_seconds = time.perf_counter() - start
    averages = profiler.key_averages()
    # The events of kernels are those on the device; the times of the operators that launched them are the same once more.
    device_events = [event for event in averages if event.device_type != torch.autograd.DeviceType.CPU]
    device_ms = sum(event.self_device_time_total for event in device_events) / 1e3
    cpu_ms = sum(event.self_cpu_time_total for event in averages) / 1e3
    launches = sum(event.count for event in averages if "LaunchKernel" in event.key)
    synchronizations = sum(event.count for event in averages if "Synchronize" in event.key)
    tables = [
        averages.table(sort_by=order, row_limit=_TABLE_ROWS, max_name_column_width=80)
        for order in ("self_device_time_total", "self_cpu_time_total")
    ]
    row = {
        "kind": "profile",
        "file": f"profile-{name}.txt",
        "wall_ms": seconds * 1e3,
        "profiled_wall_ms": profiled_seconds * 1e3,
        "device_ms": device_ms,
        "cpu_ms": cpu_ms,
        "launches": launches,
        "synchronizations": synchronizations,
    }
    (recorder.out_folder / row["file"]).write_text(f"{row}\n\n" + "\n\n".join(tables), encoding="utf-8")
    return row


def measure_decoding_steps(recorder: Recorder) -> None:
    """One step of the decoder, output head and choice of the likeliest token, launched one by one and as a captured graph."""
    shape_name = "tiny" if recorder.is_tiny else "1.1b"
    model = bench_gpu_inputs.build_model(shape_name, "bfloat16", recorder.device)
    column_count = 32 if recorder.is_tiny else 768
    for sequence_count in (2,) if recorder.is_tiny else (1, 16, 64):
        step = _DecodingStep(shape_name, model, sequence_count, column_count, recorder.device)
        recorder.measure(
            f"decoding {sequence_count}, launched",
            lambda step=step: _timed_step(recorder, step, "launched one by one", step.run),
        )
        recorder.measure(
            f"decoding {sequence_count}, captured",
            lambda step=step: _timed_step(recorder, step, "a captured graph", step.captured()),
        )


class _FixedStepPattern(AttentionPattern):
    """One more token for each of some sequences, whose lengths are in a tensor, so that a graph can be captured.

    Keys and values lie in [sequences, key heads, columns, head size] by layer, and all columns are computed under a mask.
    """

    def __init__(
        self, positions: Any, column_count: int, keys_by_layer: dict[int, Any], values_by_layer: dict[int, Any]
    ):
        super().__init__()
        self._positions, self._column_count = positions, column_count
        self.keys_by_layer, self.values_by_layer = keys_by_layer, values_by_layer

    def attend(self, layer_index: int, query: Any, key: Any, value: Any, options: AttentionOptions) -> Any:
        import torch

        sequence_count, key_head_count, _, head_size = key.shape
        if layer_index not in self.keys_by_layer:
            shape = (sequence_count, key_head_count, self._column_count, head_size)
            self.keys_by_layer[layer_index], self.values_by_layer[layer_index] = (
                key.new_zeros(shape),
                key.new_zeros(shape),
            )
        keys, values = self.keys_by_layer[layer_index], self.values_by_layer[layer_index]
        slots = torch.arange(sequence_count, device=key.device)
        keys[slots, :, self._positions] = key[:, :, 0]
        values[slots, :, self._positions] = value[:, :, 0]
        columns = torch.arange(self._column_count, device=key.device)
        mask = (columns <= self._positions[:, None])[:, None, None]
        queries = query.view(sequence_count, key_head_count, -1, head_size)
        output = masked_attention(queries, keys, values, options, mask.expand(-1, -1, queries.shape[2], -1))
        return output.reshape(sequence_count, -1, 1, head_size)


class _DecodingStep:
    """A step over fixed tensors."""

    def __init__(self, shape_name: str, model: Any, sequence_count: int, column_count: int, device: str):
        import torch

        self.shape_name, self.sequence_count, self.column_count = shape_name, sequence_count, column_count
        self._model, self._device = model, device
        self._token_ids = torch.full((sequence_count, 1), 5, device=device)
        self._positions = torch.full((sequence_count,), column_count * 2 // 3, device=device)
        self._keys_by_layer: dict[int, Any] = {}
        self._values_by_layer: dict[int, Any] = {}

    def run(self) -> Any:
        """The likeliest next token of each sequence."""
        import torch

        from orca_bench.evaluate.engine.attention_interface import use_attention_pattern

        # A pattern is of one pass; the keys and values are those of all.
        pattern = _FixedStepPattern(self._positions, self.column_count, self._keys_by_layer, self._values_by_layer)
        with torch.inference_mode(), use_attention_pattern(self._model.model.config, pattern):
            output = self._model.model(
                input_ids=self._token_ids, position_ids=self._positions[:, None], use_cache=False
            )
            return self._model.lm_head(output.last_hidden_state[:, -1]).argmax(dim=-1)

    def captured(self) -> Callable[[], Any]:
        """`run` as a graph."""
        import torch

        if self._device == "cpu":
            raise RuntimeError("graphs are captured on GPUs alone")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._output = self.run()

        def replay() -> Any:
            graph.replay()
            return self._output

        return replay


def _timed_step(recorder: Recorder, step: _DecodingStep, way: str, run_step: Callable[[], Any]) -> dict[str, Any]:
    for _ in range(3):
        output = run_step()
    token_ids = output.tolist()
    start = time.perf_counter()
    for _ in range(_STEPS):
        run_step().tolist()  # as decoding must: the next step needs the tokens
    return {
        "kind": "decoding step",
        "shape": step.shape_name,
        "way": way,
        "columns": step.column_count,
        "sequences": step.sequence_count,
        "step_ms": (time.perf_counter() - start) / _STEPS * 1e3,
        "first_token_id": token_ids[0],
    }
