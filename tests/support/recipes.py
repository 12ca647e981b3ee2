"""A small recipe; `name` and `tokenizer` are filled in."""

RECIPE = """\
name: {name}
model:
  random:
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 4
    max_position_embeddings: 512
  tokenizer: {tokenizer}
data:
  records: [records.jsonl]
  max_length: 256
train:
  epochs: 1
  global_batch: 8
  micro_batch: 2
  accumulation: 2
  processes: 2
  lr: 5e-3
  warmup: linear
  warmup_min_steps: 2
  precision: fp32
  gradient_checkpointing: false
  checkpoint_every: 5
  export_every: 5
"""
