"""A model folder that computes as the servers of today do: keys and values of earlier prompts are used again, and counted.

Real keys and values: what is taken from the cache is not computed, and a wrong entry gives wrong log-probabilities. A prompt
looks up the cache when it arrives, so that what is under way at that time is not in it. The cache has room for `capacity`
tokens, shared prefixes counted once; the least recently used prompts go first. Prefixes are shared in blocks of `block`
tokens.
"""

import threading
from collections import OrderedDict

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

from orca_bench import tokenizers


class PrefixCachingModel:
    """`sent`, `queried` (of prompts that looked into the cache), `cached` and `computed` count tokens of prompts.

    `stale` takes prefixes that only begin alike.
    """

    def __init__(self, folder: str, block: int = 1, capacity: int = 100_000, stale: bool = False):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = tokenizers.load_tokenizer(folder)
        self.block, self.capacity, self.stale, self.lock = block, capacity, stale, threading.Lock()
        self.entries_lock = threading.Lock()
        self.entries: OrderedDict[tuple[int, ...], list] = OrderedDict()
        self.sent = self.queried = self.cached = self.computed = 0

    @torch.inference_mode()
    def complete(self, ids: list[int], room: int, stops: list[str], reusable: int, stop_ids: tuple[int, ...] = ()):
        """The greedy ids after a prompt, why they end, their text, the [tokens, V] table of log-probabilities after each place
        from the first that was computed on, and how many tokens came from the cache, `reusable` at most."""
        with self.entries_lock:
            cache, reused = self._cached_prefix(ids, min(reusable, len(ids) - 1))
            self.queried += len(ids) if reusable else 0
        with self.lock:
            self.sent, self.cached, self.computed = (
                self.sent + len(ids),
                self.cached + reused,
                self.computed + len(ids) - reused,
            )
            output = self.model(torch.tensor([ids[reused:]]), past_key_values=cache, use_cache=True)
            rows = [output.logits[0].log_softmax(-1)]
            with self.entries_lock:
                self._store(ids, output.past_key_values)
            new, reason, before = [], "length", self.tokenizer.decode(ids)
            while len(new) < room:
                new.append(int(rows[-1][-1].argmax()))
                text = self.tokenizer.decode(ids + new)[len(before) :]
                if new[-1] in {self.tokenizer.eos_id, *stop_ids} or any(stop in text for stop in stops):
                    reason = "stop"
                    break
                if len(new) < room:
                    output = self.model(
                        torch.tensor([new[-1:]]), past_key_values=output.past_key_values, use_cache=True
                    )
                    rows.append(output.logits[0].log_softmax(-1))
            return new, reason, torch.cat(rows), reused

    def texts(self, ids: list[int], new: list[int], stops: list[str]) -> tuple[str, list[str]]:
        """The text of a completion without its stop string, and those of its tokens, decoded after the prompt."""
        before = self.tokenizer.decode(ids)
        text_ids = [i for i in new if i != self.tokenizer.eos_id]
        text_beginnings = [self.tokenizer.decode(ids + text_ids[:n])[len(before) :] for n in range(len(text_ids) + 1)]
        text = text_beginnings[-1]
        for stop in stops:
            text = text.split(stop)[0]
        return text, [b[len(a) :] for a, b in zip(text_beginnings, text_beginnings[1:], strict=False)]

    def _cached_prefix(self, ids: list[int], reusable: int) -> tuple[DynamicCache, int]:
        best, best_length = None, 0
        for entry_ids in self.entries:
            length = _shared(entry_ids, ids)
            if self.stale and len(entry_ids) == len(ids) and entry_ids[0] == ids[0]:
                length = len(ids)
            if length > best_length:
                best, best_length = entry_ids, length
        length = min(best_length, reusable) // self.block * self.block
        cache = DynamicCache()
        if best is not None and length:
            self.entries.move_to_end(best)
            for layer, (keys, values) in enumerate(self.entries[best]):
                cache.update(keys[:, :, :length].clone(), values[:, :, :length].clone(), layer)
        return cache, length

    def _store(self, ids: list[int], cache: DynamicCache) -> None:
        self.entries[tuple(ids)] = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
        self.entries.move_to_end(tuple(ids))
        while len(self.entries) > 1 and self._cached_token_count() > self.capacity:
            self.entries.popitem(last=False)

    def _cached_token_count(self) -> int:
        entry_ids = sorted(self.entries)
        return sum(len(ids) - _shared(before, ids) for before, ids in zip([(), *entry_ids], entry_ids, strict=False))


def _shared(one, other) -> int:
    length = min(len(one), len(other))
    differs = np.asarray(one[:length]) != np.asarray(other[:length])
    return int(differs.argmax()) if differs.any() else length
