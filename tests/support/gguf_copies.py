"""A GGUF file written again, with other metadata or another layout."""

import gguf


def copy_gguf(source, target, changed=None, dequantises=False, **writer_options):
    """Write the model of `source` to `target`; with `dequantises`, each tensor in float32 as the package gguf dequantises it.

    `changed` maps keys of the metadata to their new value, a function of the old one, or None, which leaves the key out;
    `writer_options` are gguf's (`split_max_tensors`: in shards).
    """
    changed = dict(changed or {})
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama", **writer_options)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        old_value = field.contents()
        change = changed.pop(key, old_value)
        value = change(old_value) if callable(change) else change
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            writer.add_key_value(key, value, field.types[0])
    for key, value in changed.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](key, value)
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type) if dequantises else tensor.data
        writer.add_tensor(tensor.name, numbers, raw_dtype=None if dequantises else tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
